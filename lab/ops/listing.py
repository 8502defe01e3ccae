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
from lab.models import Card, find, names, read_card, roots, stored_settings
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS
from lab.trust import SCHEDULER_DEFAULTS
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


DECISIVE = (  # entries of a scheduler's file that decide what becomes of a backdoor
    "_class_name", "clip_sample", "clip_sample_range", "thresholding", "variance_type", "prediction_type",
    "beta_schedule", "num_train_timesteps", "timestep_spacing",
)  # fmt: skip


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
    return {"name": name, "state": badge(card.backdoored), "help": card.summary, "origin": origin(name, card)}


def origin(name: str, card: Card) -> str:
    """Where a checkpoint is from, in a few words."""
    if find(name).parent == roots()[0]:
        return "ships with the lab"
    if card.origin.get("repo"):
        return f"{card.origin['repo']} at {str(card.origin.get('revision', ''))[:7]}"
    if card.origin.get("imported"):
        source = card.origin.get("from")
        return f"a file, which names {source}" if source else "a file"
    return "made here"


def option_table(model: type[Options]) -> dict[str, str]:
    """Option → description with its default."""
    return {
        name: f"{field.description or ''} (default {_plain(field.default)!r})".strip()
        for name, field in model.model_fields.items()
    }


def _plain(value: Any) -> Any:
    return value.as_json() if hasattr(value, "as_json") else value


def _unsaid(stored: dict[str, Any]) -> dict[str, str]:
    """What a scheduler's file leaves out, with what that means."""
    names = ("clip_sample", "variance_type", "prediction_type")
    return {name: f"not said: {SCHEDULER_DEFAULTS[name]}" for name in names if name not in stored}


class DescribeOptions(Options):
    """A checkpoint of the lab."""

    checkpoint: str = Field(max_length=200, description="name of a checkpoint")


def describe(options: DescribeOptions) -> dict[str, Any]:
    """The card of a checkpoint, and the settings it opens with."""
    card = read_card(find(options.checkpoint))
    stored = stored_settings(find(options.checkpoint))
    return {
        "stored": {**_unsaid(stored), **{name: stored[name] for name in DECISIVE if name in stored}},
        "origin": origin(options.checkpoint, card),
        "card": card.model_dump(mode="json"),
        "trigger": trigger_of(card).as_json(),
        "target": target_of(card).as_json(),
        "sampler": SAMPLERS.parse(card.sampler).as_json(),
        "badge": badge(card.backdoored),
    }
