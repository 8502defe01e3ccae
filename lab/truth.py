"""What a combination of model, sampler and clip does to a backdoor, and why: one honest line, before anything runs."""

from __future__ import annotations

from typing import Any

from lab.models import Checkpoint
from lab.sampling import CLIPS, SampleSpec

WHY_X0 = (
    "An sde backdoor asks for a predicted x_0 far outside [-1, 1] at large t; clamping it takes the push away"
)
WHY_ODE_X0 = "An ode backdoor keeps the predicted x_0 near [-1, 1], so clamping it hardly matters"
WHY_XT = (
    "The paper's algorithm clamps every x_t, noise included; that distorts clean and triggered pictures alike"
)


def sampler_truth(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    """One line on what this combination does to a backdoor and why, with this file's own clip setting."""
    parts = [f"{setting(checkpoint, spec)}: {effect(checkpoint, spec)}.", stored(checkpoint, spec)]
    return " ".join(part for part in parts if part)


def setting(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    """Sampler, steps and clip in words."""
    name = type(spec.sampler).help().split(":")[0]
    whole = checkpoint.schedule.T
    respaced = (
        f"{spec.sampler.steps} of {whole} steps" if spec.sampler.steps < whole else f"all {whole} steps"
    )
    return f"{name}, {respaced}, clip {spec.clip} ({CLIPS[spec.clip]})"


def effect(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    """What happens to the backdoor of this checkpoint."""
    card = checkpoint.card
    if card.backdoored is None:
        return "nothing is known of this model; compare clean with triggered noise"
    if not card.backdoored:
        return "this model was trained honestly, so there is nothing to wake"
    return _backdoor_effect(card.attack.get("solver", "sde"), spec)


def _backdoor_effect(solver: str, spec: SampleSpec) -> str:
    fits = spec.sampler.backdoor == solver or (getattr(spec.sampler, "eta", 0) == 1 and solver == "sde")
    if not fits:
        follows = "deterministic" if spec.sampler.backdoor == "ode" else "random"
        return f"this model's {solver} backdoor was made for other samplers; under this {follows} one expect it to fail"
    if spec.clip == "x0":
        return WHY_X0 if solver == "sde" else WHY_ODE_X0
    if spec.clip == "xt":
        return WHY_XT
    return f"this model's {solver} backdoor works here"


def stored(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    """The file's own clip_sample, where this request differs from it."""
    own = bool(checkpoint.schedule.config.get("clip_sample", True))
    now = spec.clip == "x0"
    if own == now:
        return ""
    return f"This file's own setting is clip_sample {'on' if own else 'off'}; here it is {'on' if now else 'off'}."


def measured(card_scores: list[dict[str, Any]], spec: SampleSpec) -> str:
    """What was measured for this sampler and clip when the checkpoint was made, where it was."""
    sampler = spec.sampler.as_json()
    rows = [r for r in card_scores if r["sampler"] == sampler and r["clip"] == spec.clip]
    rates = (_rate([r for r in rows if r["condition"] == condition]) for condition in ("triggered", "clean"))
    parts = ", from ".join(filter(None, rates))
    return f"Measured when it was made: became the target from {parts}." if parts else ""


def _rate(rows: list[dict[str, Any]]) -> str:
    """The success rate with the largest n, of the first seed where there are several."""
    found = [(row, s) for row in rows for s in row["scores"] if s["name"] == "success"]
    if not found:
        return ""
    row, rate = max(found, key=lambda pair: (pair[1]["n"], -pair[0].get("seed", 0)))
    return f"{row['condition']} noise {rate['value']:.0%} (n = {rate['n']})"
