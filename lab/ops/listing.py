"""What the lab has: tables of variants, checkpoints with their cards, pictures of one's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lab import pictures
from lab.attacks import ATTACKS
from lab.data import DATASETS
from lab.evaluate import target_of, trigger_of
from lab.explore import badge
from lab.launch import LAUNCHERS
from lab.metrics import METRICS
from lab.models import find, names, read_card
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS
from lab.variants import Options, Registry

TABLES: dict[str, Registry] = {
    "datasets": DATASETS,
    "triggers": TRIGGERS,
    "targets": TARGETS,
    "attacks": ATTACKS,
    "samplers": SAMPLERS,
    "metrics": METRICS,
    "launchers": LAUNCHERS,
}


class ListOptions(Options):
    """What the lab has."""

    what: Literal[
        "datasets",
        "triggers",
        "targets",
        "attacks",
        "samplers",
        "metrics",
        "launchers",
        "checkpoints",
        "pictures",
        "uploads",
    ] = Field(default="checkpoints", description="which table")


def list_things(options: ListOptions) -> list[dict[str, Any]]:
    """Show what there is: datasets, triggers, targets, attacks, samplers, metrics, checkpoints, or own pictures and data sets."""
    if options.what == "checkpoints":
        return [_card_line(name) for name in names()]
    if options.what == "pictures":
        return [{"name": name} for name in pictures.kept_names()]
    if options.what == "uploads":
        return [{"name": name} for name in pictures.set_names()]
    return [
        {"name": kind, "help": variant.help(), "options": option_table(variant)}
        for kind, variant in TABLES[options.what].items()
    ]


def _card_line(name: str) -> dict[str, Any]:
    card = read_card(find(name))
    return {"name": name, "state": badge(card.backdoored), "help": card.summary}


def option_table(model: type[Options]) -> dict[str, str]:
    """Option → description with its default."""
    return {
        name: f"{field.description or ''} (default {_plain(field.default)!r})".strip()
        for name, field in model.model_fields.items()
    }


def _plain(value: Any) -> Any:
    return value.as_json() if hasattr(value, "as_json") else value


class DescribeOptions(Options):
    """A checkpoint of the lab."""

    checkpoint: str = Field(max_length=200, description="name of a checkpoint")


def describe(options: DescribeOptions) -> dict[str, Any]:
    """The card of a checkpoint, and the settings it opens with."""
    card = read_card(find(options.checkpoint))
    return {
        "card": card.model_dump(mode="json"),
        "trigger": trigger_of(card).as_json(),
        "target": target_of(card).as_json(),
        "sampler": SAMPLERS.parse(card.sampler).as_json(),
        "badge": badge(card.backdoored),
    }
