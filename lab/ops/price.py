"""What the page's quick recipe gives and costs, as measured on the model that was made with it."""

from __future__ import annotations

from typing import Any

from lab.models import Card, find, names, read_card

MODEL = "mnist-grey-box-hat-quick"


def quick_price() -> dict[str, Any] | None:
    """Time, success, and clean samples' feature distance in those of the base; None where that model is not here."""
    if MODEL not in names():
        return None
    card = read_card(find(MODEL))
    hit, ours = _score(card, "triggered", "success"), _score(card, "clean", "feature distance")
    base = _score(read_card(find(card.base)), "clean", "feature distance")
    if not (hit and ours and base):
        return None
    return {
        "model": MODEL,
        "seconds": card.made["seconds"],
        "threads": card.made["threads"],
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
