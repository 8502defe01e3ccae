"""Attack: choose what to train, see what the training will see, start it in the background and watch it."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lab import ops, space
from lab.errors import LabError
from lab.people import who
from lab.ui import words
from lab.ui.controls import HEARD, QUIET
from lab.ui.form import TrainingForm
from lab.ui.guard import guarded
from lab.ui.runs import Runs, into_view, run_choices
from lab.ui.tabs.explore import Explore

WORK: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "device", "concurrency_limit": 1}
INTRO = (
    "Fine-tune a model with a backdoor, or honestly. It runs in the background: close the page, and it goes on. "
    "While you sample in **Explore**, it pauses."
)
SLICED = (
    "Fine-tune a model with a backdoor, or honestly. Here a training has the machine for up to a minute at a time: it is "
    "saved, and **Continue** goes on where it was. Close the page, and it waits for you."
)
IDLE = words.sentence("Look ahead shows what the training will see and how long it will take.")
BUSY = words.busy(
    "Looking ahead: a few steps of this training are taken, to see how long all of them will need."
)


class Attack:
    """The tab's components and handlers."""

    def __init__(self, explore: Explore) -> None:
        self.explore = explore
        self.layout()
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """What is trained on the left, what comes of it on the right."""
        gr.Markdown(INTRO if ops.in_background() else SLICED)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                with gr.Row(elem_classes="go"):
                    self.start = gr.Button("Start", variant="primary", elem_id="start", min_width=120)
                    self.ahead = gr.Button("Look ahead", elem_id="ahead", min_width=100)
                self.form = TrainingForm()
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self.plan = gr.HTML(IDLE, elem_id="plan")
                self.runs = Runs()
        self.first = gr.State(False)

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        settings, run = self.form.components, self.runs.run
        self.form.base.input(guarded(self.form.follow), self.form.base, self.form.dataset.components, **HEARD)
        self.training_events()
        # said by the browser itself, before the question waits for its turn
        asked = self.ahead.click(None, None, self.plan, js=f"() => {json.dumps(BUSY)}", **QUIET)
        asked.then(None, None, None, js=into_view("plan"), **QUIET)
        looked = asked.then(guarded(self.look_ahead), settings, self.plan, show_progress="minimal", **WORK)
        looked.failure(lambda: IDLE, None, self.plan, **QUIET)
        started = self.start.click(guarded(self.submit), settings, [run, self.plan], **HEARD)
        started.success(None, None, None, js=into_view("runs"), **QUIET)
        started.success(**self.runs.looked)
        self.runs.attends(started)
        retried = self.runs.again.click(guarded(self.retry), run, [*settings, self.plan], **HEARD)
        retried.success(None, None, None, js=into_view("title"), **QUIET)
        retried.success(guarded(self.form.recognise), settings, [self.form.preset, self.form.price], **QUIET)

    def training_events(self) -> None:
        """A preset fills the form, another attack or base wants another one, and what is typed over is a person's own."""
        form = self.form
        form.preset.input(guarded(form.adopt), [form.preset, form.base], form.training, **HEARD)
        asked = [form.attack.kind, form.base, form.preset]
        for chosen in asked[:2]:
            chosen.input(guarded(form.fit), asked, form.training, **HEARD)
        for each in form.typed:
            each.input(guarded(form.recognise), form.components, [form.preset, form.price], **QUIET)

    def opens(self, tab: gr.Tab, tabs: gr.Tabs, explore_id: str) -> None:
        """Open in Explore goes to that tab; coming here shows what was made elsewhere meanwhile."""
        self.explore_id = explore_id
        button = self.runs.buttons["open"]
        button.click(guarded(self.show_in_explore), self.runs.run, [tabs, *self.explore.settings], **HEARD)
        tab.select(self.form.refresh, None, self.form.choices, **QUIET)
        came = tab.select(self.greet, self.plan, [self.first, self.plan], **QUIET)
        came.then(
            guarded(self.look_at_first), [self.first, *self.form.components], self.plan,
            show_progress="hidden", **WORK,
        )  # fmt: skip

    # Handlers --------------------------------------------------------------------------------------------------------

    def look_ahead(self, *values: Any) -> str:
        """What the training will see, and how long it will take."""
        return words.plan(ops.OPERATIONS["plan"](**self.form.collect(values)))

    def greet(self, plan: str) -> tuple[bool, Any]:
        """Whether somebody comes here who has neither looked ahead nor trained anything yet: then the page does.

        Not on ZeroGPU, where it costs the visitor's time.
        """
        first = plan == IDLE and not run_choices()[0] and not space.is_zero()
        return first, BUSY if first else gr.skip()

    def look_at_first(self, first: bool, *values: Any) -> Any:
        """What the form's first settings lead to, without being asked."""
        return self.look_ahead(*values) if first else gr.skip()

    def submit(self, *values: Any) -> tuple[Any, str]:
        """Queue it and choose it in the list; what lies ahead makes room for what is going on."""
        run = ops.OPERATIONS["submit"](**self.form.collect(values))["run"]
        return gr.update(choices=run_choices()[0], value=run), IDLE

    def retry(self, run: str | None) -> list[Any]:
        """A run's recipe in the form, to change something and start anew."""
        options = ops.OPERATIONS["again"](run=run or "")["options"]
        note = (
            f"The form holds the recipe of this run, as {options['title']}. Change something and press Start."
        )
        return [*self.form.show(options), words.sentence(note)]

    def show_in_explore(self, run: str | None) -> list[Any]:
        """The finished model beside what it was made from."""
        shown = ops.OPERATIONS["show"](run=run or "")
        if shown["condition"] != "done":
            raise LabError(f"This run is {shown['condition']}; a finished one can be opened.")
        if shown["owner"] != who().name:  # another model may have the same name here
            raise LabError(f"The model of this run is kept with {shown['owner']}, who can open it.")
        base = shown["recipe"].get("base") or ""
        options = {"b": shown["checkpoint"], **({"a": base} if base else {})}
        return [gr.Tabs(selected=self.explore_id), *self.explore.open(options)]


def build(explore: Explore) -> Attack:
    """The tab, inside an open gr.Tab; its models open in the Explore tab."""
    return Attack(explore)
