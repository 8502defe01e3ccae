"""A run's files in a private repository of the Hugging Face Hub, for machines that share no disk with this one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import Unavailable

KIND = "dataset"
LARGEST = 4 * 2**30  # bytes of a file that is fetched
# What a run's folder holds. Nothing else is fetched, whatever a repository says that it has.
SMALL = r"(recipe|about|state|poisoned|exam)\.json|(ticks|previews|rows)\.jsonl|log\.txt|samples/[\w-]+\.png"
CHECKPOINT = r"checkpoint/((unet|scheduler)/)?\w+\.(json|safetensors)"
STATE = r"state-\d{8}/[\w.-]+"


@dataclass(frozen=True)
class Parcel:
    """The files of one run, `runs/ID/` in the operator's repository; every change of them is one commit."""

    run: str

    @property
    def repo(self) -> str:
        """The operator's repository; its owner also owns the jobs."""
        repo = os.environ.get("LAB_HF_REPO", "")
        if repo.count("/") != 1:
            raise Unavailable(
                "The launcher 'hf_jobs' needs a repository: whoever runs the lab sets LAB_HF_REPO, such as me/lab-runs."
            )
        return repo

    def make_sure(self) -> None:
        """Make the repository where there is none; one that everybody can read is refused."""
        hub().create_repo(self.repo, repo_type=KIND, private=True, exist_ok=True)
        if not hub().repo_info(self.repo, repo_type=KIND).private:
            raise Unavailable("The repository in LAB_HF_REPO is public; runs go to a private one.")

    def send(self, files: Mapping[str, bytes | Path], gone: Iterable[str] = ()) -> None:
        """Put these files there and take others away, all at once."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [
            CommitOperationAdd(
                f"runs/{self.run}/{name}", content if isinstance(content, bytes) else str(content)
            )
            for name, content in files.items()
        ]
        operations += [CommitOperationDelete(f"runs/{self.run}/{name}") for name in gone]
        if operations:
            hub().create_commit(
                self.repo, operations, repo_type=KIND, commit_message=f"Run {self.run}", num_threads=1
            )

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return hub().file_exists(self.repo, f"runs/{self.run}/{name}", repo_type=KIND)

    def fetch(self, folder: Path, patterns: str, known: Mapping[str, str]) -> dict[str, str]:
        """Bring files of these patterns into a folder, of one commit, but for those known; returns names and what they hold."""
        head = hub().repo_info(self.repo, repo_type=KIND).sha
        root = f"runs/{self.run}/"
        found = {}
        for entry in hub().list_repo_tree(
            self.repo, root.rstrip("/"), recursive=True, revision=head, repo_type=KIND
        ):
            name = entry.path.removeprefix(root)
            if getattr(entry, "blob_id", None) and re.fullmatch(patterns, name) and entry.size <= LARGEST:
                found[name] = entry.blob_id
        for name in sorted(found):
            if known.get(name) != found[name]:
                self._bring(name, folder / name, head)
        return found

    def _bring(self, name: str, to: Path, head: str | None) -> None:
        near = to.parent / f".near-{to.name}"
        path = hub().hf_hub_download(
            self.repo, f"runs/{self.run}/{name}", repo_type=KIND, revision=head, local_dir=near
        )
        to.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, to)
        shutil.rmtree(near, ignore_errors=True)


def hub() -> Any:
    """The Hub that HF_ENDPOINT names, entered with the operator's token."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token())


def token() -> str:
    """The operator's; it goes to the Hub, and nowhere else."""
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise Unavailable(
            "The launcher 'hf_jobs' needs a token with write access: whoever runs the lab sets HF_TOKEN."
        )
    return found
