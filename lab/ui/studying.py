"""Studies: choose one or describe one of your own, see what it takes, run it in the background, and read its charts."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.ui import studies, words
from lab.ui.controls import HEARD, QUIET
from lab.ui.form import base_choices
from lab.ui.guard import guarded
from lab.ui.wish import STREAM

EVERY = 5.0  # seconds between two looks at a study
# One look after the other: a slow one at the study before would else be shown over the one that was chosen since.
IN_ORDER: dict[str, Any] = {**HEARD, "concurrency_id": "study", "concurrency_limit": 1}
NOT_VARIED = ("none", "blank", "own")  # triggers and targets that are no drawing of the lab's


class Studying:
    """The part's components and handlers."""

    def __init__(self) -> None:
        self.layout()
        self.events()

    def layout(self) -> None:
        """Which study, what it costs, and what its rows say."""
        with gr.Row(elem_classes="slots"):
            self.study = gr.Dropdown(study_names(), value="poison-rates", label="Study", elem_id="study")
        with gr.Row(elem_classes="presets"):
            self.plan = gr.Button("What will it take?", size="sm", elem_id="plan-study", min_width=140)
            self.run = gr.Button("Run it", size="sm", variant="primary", elem_id="run-study", min_width=90)
            self.halt = gr.Button("Stop it", size="sm", elem_id="stop-study", min_width=90)
        self.cost = gr.HTML(elem_id="study-cost", elem_classes="tight")
        with gr.Accordion("A study of your own", open=False, elem_id="own-study"):
            self.own = OwnStudy()
        self.rows = gr.HTML(elem_id="study-rows")
        with gr.Accordion("Published by the authors of BadDiffusion", open=False):
            gr.HTML(studies.published(), elem_id="published")
        with gr.Accordion("Benchmarks of the literature", open=False):
            gr.HTML(studies.literature(), elem_id="literature")
        self.timer, self.seen = gr.Timer(EVERY, active=False), gr.State("")

    def events(self) -> None:
        """Who listens to what."""
        look = self._look()
        self.study.change(lambda: "", None, self.seen, **QUIET).then(**look)
        self.timer.tick(**look)
        self.plan.click(guarded(self.cost_of), self.study, self.cost, show_progress="minimal", **STREAM)
        for button, what in ((self.run, self.start), (self.halt, self.stop)):
            done = button.click(guarded(what), self.study, self.cost, **HEARD)
            done.success(lambda: "", None, self.seen, **QUIET).then(**look)
        made = self.own.make.click(guarded(self.make), self.own.components, [self.study, self.cost], **HEARD)
        # what it will take is what one asks next
        made.success(guarded(self.cost_of), self.study, self.cost, show_progress="minimal", **STREAM)

    def _look(self) -> dict[str, Any]:
        return {
            "fn": guarded(self.look),
            "inputs": [self.study, self.seen],
            "outputs": [self.rows, self.timer, self.seen],
            **IN_ORDER,
        }

    def opens(self, tab: gr.Tab) -> None:
        """Coming here shows studies and rows that were made meanwhile."""
        tab.select(lambda: gr.update(choices=study_names()), None, self.study, **QUIET)
        tab.select(**self._look())

    # Handlers --------------------------------------------------------------------------------------------------------

    def cost_of(self, name: str) -> str:
        """What it would take here."""
        return studies.cost(ops.OPERATIONS["study"](what="plan", name=name))

    def start(self, name: str) -> str:
        """Queue what is missing; it goes on without this page."""
        return studies.begun(ops.OPERATIONS["study"](what="run", name=name))

    def stop(self, name: str) -> str:
        """Ask all its trainings to stop."""
        asked = ops.OPERATIONS["study"](what="stop", name=name)["asked"]
        return words.sentence(f"{asked} trainings were asked to stop; Run it takes them up again.")

    def make(self, *values: Any) -> tuple[Any, str]:
        """Write it down and choose it."""
        name = ops.OPERATIONS["study"](what="make", **self.own.collect(values))["study"]
        return gr.update(choices=study_names(), value=name), words.busy("One step is timed.")

    def look(self, name: str, seen: str) -> tuple[Any, Any, Any]:
        """Its charts where there is something new, and whether to look again."""
        found = ops.OPERATIONS["study"](what="show", name=name)
        going = any(state in found["states"] for state in ("queued", "running"))
        mark = f"{name} {found['measured']} {found['states']}"
        drawn = gr.skip() if mark == seen else studies.study(found)
        return drawn, gr.Timer(active=going), mark


class OwnStudy:
    """The form of a study of one's own: what varies, and how each model is made and measured."""

    def __init__(self) -> None:
        with gr.Row():
            self.name = gr.Textbox("my-study", label="Name", max_length=40, info="a-z, 0-9 and dashes")
            self.base = gr.Dropdown(base_choices()[1:], value="mnist-clean", label="Start from")
        with gr.Row():
            self.triggers = _kinds("triggers", "grey_box")
            self.targets = _kinds("targets", "hat")
            self.form = gr.Radio(
                ["authors", "masked"], value="authors", label="Form", info="masked for bright images"
            )
        with gr.Row():
            self.rates = gr.Textbox("0, 5, 10", label="Poisoned images, %", info="one or more, with commas")
            self.seeds = gr.Number(3, precision=0, minimum=1, maximum=20, label="Seeds, trainings of each")
            self.steps = gr.Number(ops.BY_NOISE.steps, precision=0, minimum=1, label="Training steps")
        with gr.Row():
            self.n = gr.Number(256, precision=0, minimum=1, maximum=10_000, label="Images of a measurement")
            self.clips = gr.CheckboxGroup(
                ["none", "x0", "xt"], value=["none", "x0"], label="Clip while sampling"
            )
        self.make = gr.Button("Make this study", size="sm", elem_id="make-study")

    @property
    def components(self) -> list[Any]:
        """Inputs of every handler that calls `collect`."""
        return [
            *(self.name, self.base, self.triggers, self.targets, self.form),
            *(self.rates, self.seeds, self.steps, self.n, self.clips),
        ]

    def collect(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The values of `components` as options of a study."""
        name, base, triggers, targets, form, rates, seeds, steps, n, clips = values
        card = ops.OPERATIONS["describe"](checkpoint=base or "")["card"]
        formed = ops.TABLES["triggers"]
        return {
            "name": name or "",
            "base": base,
            "dataset": card["recipe"].get("dataset", {"kind": "digits"}),
            "triggers": [
                {"kind": kind, **({"form": form} if "form" in formed[kind].model_fields else {})}
                for kind in triggers
            ],
            "targets": [{"kind": kind} for kind in targets],
            "poison_rates": percentages(rates),
            "seeds": list(range(int(seeds or 1))),
            "train": {**ops.BY_NOISE.model_dump(), "steps": steps},
            "n": n,
            "clips": clips,
        }


def _kinds(table: str, first: str) -> gr.Dropdown:
    choices = [(kind.replace("_", " "), kind) for kind in ops.TABLES[table] if kind not in NOT_VARIED]
    return gr.Dropdown(choices, value=[first], multiselect=True, label=table.capitalize())


def percentages(text: str | None) -> list[float]:
    """Shares from percentages as people write them: 0, 5, 10 %; anything else is refused."""
    parts = [part for part in re.split(r"[,;\s%]+", text or "") if part]
    try:
        return [float(part) / 100 for part in parts]
    except ValueError:
        raise LabError(
            f"Poisoned images are percentages with commas between them, such as 0, 5, 10; got {text!r:.60}."
        ) from None


def study_names() -> list[str]:
    """Studies that the lab knows."""
    return [line["name"] for line in ops.OPERATIONS["study"](what="list")]
