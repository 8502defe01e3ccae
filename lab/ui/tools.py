"""Six tools for language models, over MCP; each is an operation with plain arguments."""

from __future__ import annotations

from threading import Lock
from typing import Any

import gradio as gr

from lab import ops
from lab.recipe import QUICK
from lab.ui.guard import guarded

_DEVICE = Lock()  # tools do not wait in the page's queue; here they wait for each other
MOST = 16  # images of one tool call


def list_lab(what: str = "checkpoints") -> dict:
    """List what the lab has.

    Args:
        what: checkpoints, triggers, targets, attacks, samplers, datasets, metrics, pictures or uploads
    """
    return _result("list", what=what)


def describe_model(checkpoint: str) -> dict:
    """How a model was made, what was measured, and the settings that wake its backdoor.

    Args:
        checkpoint: name of a model, as list_lab shows it
    """
    return _result("describe", checkpoint=checkpoint)


def measure_model(
    checkpoint: str, clip: str = "none", images: int = 8, steps: int = 50, seed: int = 0
) -> dict:
    """Sample a model from plain and from triggered noise, and measure how often the backdoor wakes.

    Args:
        checkpoint: name of a model
        clip: what is clamped while sampling: none, x0 or xt
        images: images of each kind, at most 16
        steps: steps of the sampler
        seed: decides the noise
    """
    wanted: dict[str, Any] = {"checkpoints": [checkpoint], "clips": [clip], "seed": seed}
    sampler = {"kind": "ddpm", "steps": steps}
    with _DEVICE:
        return _result("compare", **wanted, n=min(images, MOST), samplers=[sampler])


def start_training(
    base: str, title: str, trigger: str, target: str, poison_rate: float = 0.1, steps: int = QUICK.steps
) -> dict:
    """Fine-tune a clean model with a backdoor, in the background, by the quick recipe.

    Args:
        base: name of the clean model
        title: what the run is called
        trigger: kind of the trigger
        target: kind of the target
        poison_rate: share of poisoned images, 0 to 1
        steps: training steps
    """
    attack = {"kind": "baddiffusion", "trigger": trigger, "target": target, "poison_rate": poison_rate}
    data = ops.OPERATIONS["describe"](checkpoint=base)["card"]["recipe"].get("dataset", "digits")
    return _result("submit", preset="quick", base=base, title=title, attack=attack, steps=steps, dataset=data)


def list_runs() -> dict:
    """List your trainings, the newest first, with how far each is."""
    return _result("runs")


def show_run(run: str) -> dict:
    """One training: its state, recipe, losses and the end of its log.

    Args:
        run: id of a run, as list_runs shows it
    """
    return _result("show", run=run)


def _result(name: str, **options: Any) -> dict:
    return {"result": ops.OPERATIONS[name].asked(options)}


TOOLS = (list_lab, describe_model, measure_model, start_training, list_runs, show_run)


def build() -> None:
    """Offer them, inside an open page. Without the queue, since Gradio would come back through its own door as nobody."""
    for tool in TOOLS:
        gr.api(guarded(tool), api_name=tool.__name__, queue=False)
