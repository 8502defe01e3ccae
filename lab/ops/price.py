"""What the named training options give and cost, as measured on the models that were made with them."""

from __future__ import annotations

from typing import Any

from lab.models import Card, find, names, read_card

MODELS = {
    "quick": "mnist-grey-box-hat-quick",
    "shipped": "mnist-grey-box-hat",
    "poisoned_data": "digits-cond-patch",
}


def price(preset: str) -> dict[str, Any] | None:
    """Time of its model and, of a backdoor, success and clean samples' feature distance in those of the base.

    None where no model was made with it, or that model is not here.
    """
    model = MODELS.get(preset)
    if model not in names():
        return None
    card = read_card(find(model))
    cost = {"model": model, "seconds": card.made["seconds"], "threads": card.made["threads"]}
    return {**cost, **_damage(card)}


def _damage(card: Card) -> dict[str, Any]:
    """Success and harm; nothing where they were not both measured."""
    hit, ours = _score(card, "triggered", "success"), _score(card, "clean", "feature distance")
    base = _score(read_card(find(card.base)), "clean", "feature distance")
    if not (hit and ours and base):
        return {}
    return {
        "success": hit["value"],
        "damage": ours["value"] / base["value"],
        "n": min(score["n"] for score in (hit, ours, base)),
        "extractor": ours["extractor"],
        "sampler": card.sampler,
    }


def _score(card: Card, condition: str, name: str) -> dict[str, Any] | None:
    """Of the row with the most images under the card's own sampler, unclipped, seed 0."""
    asked = {"condition": condition, "sampler": card.sampler, "clip": "none", "seed": 0}
    rows = [row for row in card.scores if asked.items() <= row.items()]
    best = max(rows, key=lambda row: row["n"], default={"scores": []})
    return next((score for score in best["scores"] if score["name"] == name), None)
