"""Publishing: a checkpoint with its card goes to the Hub in one commit, private unless it is asked otherwise."""

from __future__ import annotations

from typing import Any, Literal

from lab.bundle import Bundle, is_picture
from lab.errors import LabError, Unavailable
from lab.hub import wire
from lab.hub.listing import REPO
from lab.models import Card
from lab.people import LOCAL, who

Gate = Literal["none", "auto", "manual"]
WORD = "backdoor"


def check_name(repo: str, card: Card) -> None:
    """Refuse a name that is none, or that hides what the model is."""
    if not REPO.fullmatch(repo):
        raise LabError(f"A repository is called owner/name, of a-z, 0-9, -, _ and .; got {repo[:100]!r}.")
    owner, _, name = repo.partition("/")
    if card.backdoored and WORD not in name.lower():
        raise LabError(f"This model is backdoored, and its name has to say so: {owner}/{name}-{WORD}ed-demo.")


def publish(bundle: Bundle, repo: str, public: bool, gate: Gate, token: str) -> dict[str, Any]:
    """Make the repository, put every file there in one commit, then open it as far as was asked; returns where it is.

    gate: who asks for a public model leaves a name (auto), or waits for a yes (manual). One that is there already is
    written over only where it is as private as was asked for.
    """
    from huggingface_hub import HfApi

    check_name(repo, bundle.card)
    hub = HfApi(endpoint=wire.endpoint(), token=token)
    with wire.told(repo, wire.WRITING):
        hub.create_repo(repo, private=True, exist_ok=True)
        there = hub.model_info(repo)
        if not public and not there.private:
            raise LabError(f"{repo} is there and public; say so with --public, or choose another name.")
        if public:  # never open for a moment without its gate
            hub.update_repo_settings(repo, gated=False if gate == "none" else gate)
        message = f"{bundle.card.name}, with its card"
        before = [each.rfilename for each in there.siblings or ()]
        commit = hub.create_commit(repo, _operations(bundle, before), commit_message=message)
        if public:
            hub.update_repo_settings(repo, private=False)
    return {
        "repo": repo,
        "url": f"{wire.endpoint()}/{repo}",
        "revision": commit.oid,
        "public": public,
        "gate": gate if public else "private",
        "files": sorted(bundle.files),
    }


def _operations(bundle: Bundle, before: list[str]) -> list[Any]:
    """Every file of the bundle, and the end of pictures that an earlier model of this name had and this one has not."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = [name for name in before if is_picture(name) and name not in bundle.files]
    added = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in sorted(bundle.files.items())
    ]
    return [*added, *map(CommitOperationDelete, gone)]


def operators_token() -> str:
    """The token of whoever runs the lab, at their own lab; refused where there is none, and to everybody else."""
    from huggingface_hub import get_token

    if who().name != LOCAL:
        raise Unavailable("Publishing goes through your own account here: log in with Hugging Face.")
    found = get_token()
    if not found:
        raise Unavailable("Publishing needs a token that may write: whoever runs the lab sets HF_TOKEN.")
    return found
