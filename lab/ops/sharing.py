"""Checkpoints leave the lab and come back: as a zip, or published on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lab.bundle import LICENCE, Bundle, bring, readme
from lab.errors import LabError
from lab.hub import publish as publishing
from lab.models import Card, find, read_card
from lab.variants import Options

LICENCES = Literal["apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "other"]


class ExportOptions(Options):
    """Which checkpoint, and where to."""

    checkpoint: str = Field(default="", max_length=200, description="name of a checkpoint")
    out: str = Field(default="", max_length=4096, description="zip file; NAME.zip here if not given")
    licence: LICENCES = Field(default=LICENCE, description="licence that its card names")


def export(options: ExportOptions) -> dict[str, Any]:
    """Write a checkpoint with its card, pictures and checksums as one zip that another lab imports."""
    bundle = Bundle.of(options.checkpoint, options.licence)
    out = Path(options.out).expanduser() if options.out else Path(f"{options.checkpoint}.zip")
    bundle.write(out)
    return {"file": str(out), "bytes": out.stat().st_size, "files": sorted(bundle.files)}


class ImportOptions(Options):
    """Which file, and what it is called here."""

    file: str = Field(default="", max_length=4096, description="zip that a lab exported")
    name: str = Field(
        default="", max_length=60, description="name in this lab; the card's own, or the next free one"
    )


def bring_in(options: ImportOptions) -> dict[str, Any]:
    """Take in a checkpoint that a lab exported: every file is checked, and it samples as it did there."""
    card = bring(Path(options.file).expanduser(), options.name)
    return {"checkpoint": card.name, "backdoored": card.backdoored, "summary": card.summary}


class PublishOptions(Options):
    """What is published, where, and who may see it."""

    checkpoint: str = Field(default="", max_length=200, description="name of a checkpoint")
    repo: str = Field(default="", max_length=200, description="owner/name on the Hub")
    public: bool = Field(default=False, description="for everybody to see; without it only its owner sees it")
    gate: publishing.Gate = Field(
        default="auto",
        description="a public one asks for a name first (auto), waits for a yes (manual), or does neither (none)",
    )
    licence: LICENCES = Field(default=LICENCE, description="licence that its card names")


def publish(options: PublishOptions) -> dict[str, Any]:
    """Publish a checkpoint with its card on the Hugging Face Hub, private unless told otherwise."""
    return publish_as(options, publishing.operators_token())


def publish_as(options: PublishOptions, token: str) -> dict[str, Any]:
    """The same with somebody's own token, which goes to the Hub and nowhere else."""
    publishing.check_name(options.repo, _card(options.checkpoint))
    bundle = Bundle.of(options.checkpoint, options.licence)
    return publishing.publish(bundle, options.repo, options.public, options.gate, token)


def preview(name: str) -> str:
    """The model card that a published or exported checkpoint carries, as Markdown."""
    return readme(_card(name))


def proposed(name: str) -> str:
    """A name on the Hub that says what the model is."""
    return f"{name}-{publishing.WORD}ed-demo" if _card(name).backdoored else name


def _card(name: str) -> Card:
    if not name:
        raise LabError("Choose a checkpoint.")
    return read_card(find(name))
