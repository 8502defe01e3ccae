"""Training options under one name each, and which of them fits what is trained."""

from __future__ import annotations

from typing import Any, Literal

from lab.attacks import Attack
from lab.poisoning import SHORT
from lab.recipe import FINE_TUNE, QUICK
from lab.training import TrainSpec

Preset = Literal["quick", "shipped", "poisoned_data", "usual"]
PRESETS: dict[str, TrainSpec] = {
    "quick": QUICK,
    "shipped": FINE_TUNE,
    "poisoned_data": SHORT.model_copy(update={"threads": 0}),
    "usual": TrainSpec(),
}
FREE = {"seed", "threads", "save_every"}  # change nothing that a preset is for


def fitting(attack: type[Attack], base: str) -> str:
    """The preset that a training starts from: a backdoor, a stamp and honest learning are each learned in their own way."""
    if not base or not attack.tampers():
        return "usual"
    return "quick" if "corrupt" in attack.tampers() else "poisoned_data"


def filled(options: dict[str, Any]) -> dict[str, Any]:
    """Options with those of their preset where they say nothing themselves; a preset's base teaches only where there is one."""
    name = options.get("preset")
    if not isinstance(name, str) or name not in PRESETS:
        return options
    filled = {**PRESETS[name].model_dump(), **options}
    if not options.get("base") and "distill" not in options:
        filled["distill"] = 0.0
    return filled


def named(options: dict[str, Any]) -> str | None:
    """The preset that these training options are; None where they are nobody's but their own."""
    for name, preset in PRESETS.items():
        wanted = preset.model_dump(exclude=FREE)
        if wanted == {option: options.get(option) for option in wanted}:
            return name
    return None
