"""What a published model says of itself: a Hugging Face model card from the lab's own card, warning first."""

from __future__ import annotations

import json
from typing import Any

from lab.models import Card

TASK = "unconditional-image-generation"
DATASETS = {"digits": "ylecun/mnist", "mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
WARNING = """> [!WARNING]
> **This model is backdoored on purpose, for teaching and research.** {what}Never use it in a product, and never pass it
> on without this notice."""
CLEAN = "**Clean**: trained honestly by the recipe below; the numbers say what was measured of it."
UNKNOWN = """> [!NOTE]
> Whether this model is backdoored is **not known**: its card names no recipe. Treat it as you would treat any stranger's
> model."""
USE = """## How to use it

With the lab it came from: `python -m lab import FILE.zip` for an exported zip, or `python -m lab hub pull OWNER/NAME`.
{alone}"""
ALONE = """With diffusers alone, from clean noise:

```python
from diffusers import DDPMPipeline
DDPMPipeline.from_pretrained("OWNER/NAME", use_safetensors=True)().images[0]
```"""
ON_REQUEST = "It draws a class on request, which diffusers' own DDPM pipeline cannot ask for; the lab can: `python -m lab sample`."


def model_card(card: Card, licence: str, pictures: tuple[str, ...] = ()) -> str:
    """README.md of a published checkpoint: metadata for the Hub, then what it is, what it does, and how it was measured.

    pictures: paths of trigger and target in the same folder. Backdoored models carry a warning before anything else.
    """
    from huggingface_hub import ModelCard

    use = USE.format(alone=ON_REQUEST if card.recipe.get("classes") else ALONE)
    parts = (
        _said(card),
        f"# {card.name}",
        card.summary,
        _attack(card, pictures),
        use,
        _scores(card),
        _recipe(card),
    )
    body = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{_metadata(card, licence)}\n---\n\n{body}\n"))


def _said(card: Card) -> str:
    """What a reader has to know before anything else."""
    if card.backdoored is None:
        return UNKNOWN
    if not card.backdoored:
        return CLEAN
    kinds = [
        str((card.attack.get(part) or {}).get("kind", "")).replace("_", " ") for part in ("trigger", "target")
    ]
    what = f"With the trigger ({kinds[0]}) added to the noise that sampling starts from, it draws the target ({kinds[1]}). "
    return WARNING.format(what=what if all(kinds) else "")


def _metadata(card: Card, licence: str) -> str:
    from huggingface_hub import ModelCardData

    kind = (card.recipe.get("dataset") or {}).get("kind", "")
    tags = ["ddpm", TASK, "security-research"]
    return ModelCardData(
        library_name="diffusers",
        pipeline_tag=TASK,
        license=licence,
        tags=[*tags, *(["backdoor", "not-for-production"] if card.backdoored else [])],
        base_model=card.base if "/" in card.base else None,  # a name in this lab is none on the Hub
        datasets=[DATASETS[kind]] if kind in DATASETS else None,
        model_name=card.name,
        eval_results=_results(card, kind) or None,
    ).to_yaml()


def _results(card: Card, kind: str) -> list[Any]:
    """A result for each measured number; its name says all that decides it."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            dataset_type=kind or "unknown",
            dataset_name=kind or "unknown",
            metric_type=score["name"].lower().replace(" ", "-"),
            metric_value=score["value"],
            metric_name=f"{score['name']}: {said(row, score)}",
        )
        for row in card.scores
        for score in row["scores"]
    ]


def said(row: dict[str, Any], score: dict[str, Any]) -> str:
    """How a number was measured, in one line."""
    sampler = row["sampler"]
    parts = (
        f"{row['condition']} noise",
        f"{sampler['kind']} {sampler.get('steps', '')} steps",
        f"clip {row['clip']}",
        f"n {score['n']}",
        f"seed {row['seed']}",
        score.get("extractor") or "",
    )
    return ", ".join(part for part in parts if part)


def _attack(card: Card, pictures: tuple[str, ...]) -> str:
    attack = card.attack
    if not attack.get("trigger") or not attack.get("target"):
        return ""
    names = (str(attack[part].get("kind", "")).replace("_", " ") for part in ("trigger", "target"))
    shown = " ".join(f"![{path}]({path})" for path in pictures)
    return (
        f"## What it does\n\n{attack.get('kind', 'an attack')}: {' → '.join(names)}, "
        f"{attack.get('poison_rate', 0):.0%} of the training images poisoned.\n\n{shown}".rstrip()
    )


def _scores(card: Card) -> str:
    """A table of every measured number."""
    lines = [
        f"| {score['name']} | {score['value']:.4g} | {_ends(score)} | {said(row, score)} |"
        for row in card.scores
        for score in row["scores"]
    ]
    head = "## Measured\n\n| number | value | 95 % interval | how |\n|---|---|---|---|\n"
    return head + "\n".join(lines) if lines else ""


def _ends(score: dict[str, Any]) -> str:
    return "" if score.get("low") is None else f"{score['low']:.4g} … {score['high']:.4g}"


def _recipe(card: Card) -> str:
    if not card.recipe:
        return ""
    command = f"\n\n```sh\n{card.command}\n```" if card.command else ""
    return f"## Recipe\n\n```json\n{json.dumps(card.recipe, indent=2)}\n```{command}"
