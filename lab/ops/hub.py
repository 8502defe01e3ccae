"""Models of the Hugging Face Hub: search, look at one, pull it; and delete what is one's own here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from lab import hub
from lab.errors import LabError
from lab.hub.pull import forget
from lab.models import find, read_card, remove, roots
from lab.people import who
from lab.progress import Tick
from lab.store import ACTIVE, Store
from lab.variants import Options


class HubOptions(Options):
    """What to do with the Hub, and with which model."""

    what: Literal["search", "look", "pull"] = Field(
        default="search", description="search, look (size, licence, kinds of files), or pull"
    )
    text: str = Field(
        default="",
        max_length=200,
        description="words to search for (none: what is known offline), or owner/name",
    )
    revision: str = Field(
        default="",
        max_length=100,
        description="branch, tag or commit; empty takes what is newest and pins it",
    )
    name: str = Field(
        default="", max_length=60, description="name in this lab; made from the repository's if empty"
    )
    limit: int = Field(default=10, ge=1, le=25, description="models that a search shows")
    allow_pickle: bool = Field(
        default=False,
        description="also take weights that are a pickle only: read in a process of their own, kept as safetensors",
    )


def work(options: HubOptions) -> Any:
    """Search the Hugging Face Hub for DDPMs, look at one, or pull it: only JSON and safetensors, checked."""
    if options.what == "search":
        return hub.search(options.text, options.limit) if options.text.strip() else hub.known()
    return look(options) if options.what == "look" else _pulled(options)


def look(options: HubOptions) -> dict[str, Any]:
    """What a repository holds, before anything but its list of files is fetched."""
    listing = hub.look(options.text, options.revision)
    configs, weights = listing.wanted(allow_pickle=True)
    return {
        "repo": listing.repo,
        "revision": listing.revision,
        "bytes": listing.check_size([*configs, weights]),
        "weights": weights,
        "pickle": not weights.endswith(".safetensors"),
        "marks": listing.marks,
        "licence": listing.licence,
        "downloads": listing.downloads,
        "closed": "private" if listing.private else "gated" if listing.gated else "",
        "name": hub.local_name(listing.repo),
    }


def _pulled(options: HubOptions) -> Iterator[Tick | dict[str, Any]]:
    if who().role == "visitor":
        raise LabError("Visitors fetch no models here; log in, or run the lab on a machine of your own.")
    return hub.pull(options.text, options.revision, options.name, options.allow_pickle)


class RemoveOptions(Options):
    """Which model."""

    checkpoint: str = Field(
        max_length=200, description="name of a model of one's own, or pulled from the Hub"
    )


def discard(options: RemoveOptions) -> dict[str, Any]:
    """Delete a model of your own, or one that was pulled; what ships with the lab stays."""
    folder = find(options.checkpoint)
    if folder.parent != roots()[1]:
        raise LabError(f"{options.checkpoint} ships with the lab and stays.")
    for run in Store().all():
        if run.recipe.get("base") == options.checkpoint and run.state.condition in ACTIVE:
            raise LabError(f"Run {run.id} starts from {options.checkpoint}; stop it first.")
    try:
        forget(read_card(folder))
    finally:  # a card that cannot be read is one more reason
        remove(folder)
    return {"removed": options.checkpoint}
