"""Attack: choose what to train, see what the training will see, start it in the background and watch it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.ui import words
from lab.ui.controls import QUIET, Chooser, Form
from lab.ui.guard import guarded
from lab.ui.tabs.explore import Explore, checkpoint_choices

SUBMIT = ops.OPERATIONS["submit"].options
COMMON = ("steps", "lr", "batch", "ema", "seed")
MORE = ("t_sampling", "loss", "snr_gamma", "warmup", "weight_decay", "grad_clip", "previews", "save_every")
EVERY = 2.0  # seconds between two looks at the runs
LISTED = 20  # runs, the newest first
HEARD: dict[str, Any] = {**QUIET, "queue": True}
WORK: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "device", "concurrency_limit": 1}
INTRO = (
    "Fine-tune a model with a backdoor, or honestly. It runs in the background: close the page, and it goes on. "
    "While you sample in **Explore**, it pauses."
)
CONFIRM = "() => { if (!confirm('Delete this run and all that it saved? Its finished model stays.')) throw new Error('kept'); }"


class Attack:
    """The tab's components and handlers."""

    def __init__(self, explore: Explore) -> None:
        self.explore = explore
        self.layout()
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """What is trained on the left, what comes of it on the right."""
        gr.Markdown(INTRO)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                self._controls()
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self._results()

    def _controls(self) -> None:
        own = [line["name"] for line in ops.OPERATIONS["list"](what="pictures")]
        uploads = [line["name"] for line in ops.OPERATIONS["list"](what="uploads")]
        with gr.Row(elem_classes="go"):
            self.start = gr.Button("Start", variant="primary", elem_id="start", min_width=120)
            self.ahead = gr.Button("Look ahead", elem_id="ahead", min_width=100)
        self.title = gr.Textbox(
            "", label="Title", placeholder="what the new model is called", max_length=80, elem_id="title"
        )
        self.base = gr.Dropdown(
            [("from scratch", ""), *checkpoint_choices()],
            value="mnist-clean",
            label="Start from",
            elem_id="base",
        )
        self.attack = Chooser(ops.TABLES["attacks"], {"kind": "baddiffusion"}, own, "attack-")
        self.common = Form(SUBMIT, COMMON, start=ops.QUICK)
        gr.HTML(words.price(ops.quick_price()), elem_id="price", elem_classes="tight")
        with gr.Accordion("Data and the finer points", open=False):
            self.dataset = Chooser(ops.OPEN_DATASETS, {"kind": "digits"}, uploads, "attack-")
            self.more = Form(SUBMIT, MORE, start=ops.QUICK)

    def _results(self) -> None:
        self.plan = gr.HTML(
            words.sentence("Look ahead shows what the training will see and how long it will take."),
            elem_id="plan",
        )
        self.run = gr.Radio([], label="Runs", elem_id="runs")
        with gr.Row(elem_classes="presets"):
            self.stop = gr.Button("Stop", size="sm", min_width=80, elem_id="stop-run")
            self.resume = gr.Button("Resume", size="sm", min_width=80, elem_id="resume-run")
            self.open = gr.Button("Open in Explore", size="sm", min_width=130, elem_id="open-run")
            self.delete = gr.Button("Delete", size="sm", min_width=80, elem_id="delete-run")
        self.live = gr.HTML(elem_id="live")
        self.timer = gr.Timer(EVERY)

    @property
    def settings(self) -> list[Any]:
        """Inputs of every handler that reads the settings."""
        parts = (self.attack, self.common, self.dataset, self.more)
        return [self.title, self.base, *(each for part in parts for each in part.components)]

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        self.ahead.click(guarded(self.look_ahead), self.settings, self.plan, **WORK)
        looked = {"fn": self.look, "inputs": self.run, "outputs": [self.run, self.live], **QUIET}
        started = self.start.click(guarded(self.submit), self.settings, [self.run, self.plan], **HEARD)
        started.success(**looked)
        for button, name in ((self.stop, "stop"), (self.resume, "resume")):
            button.click(guarded(_asker(name)), self.run, None, **HEARD).success(**looked)
        self.delete.click(None, None, None, js=CONFIRM).success(
            guarded(_asker("delete")), self.run, None, **HEARD
        ).success(**looked)
        self.run.input(**looked)
        self.timer.tick(**looked)

    def opens(self, tabs: gr.Tabs, explore_id: str) -> None:
        """Open in Explore goes to that tab, with the run's model in slot B and what it was made from in slot A."""
        self.open.click(guarded(self.show_in_explore), self.run, [tabs, *self.explore.settings], **HEARD)
        self.explore_id = explore_id

    # Handlers --------------------------------------------------------------------------------------------------------

    def collect(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The values of `settings` as options of a submission."""
        title, base, *rest = values
        options: dict[str, Any] = {"title": title or "", "base": base or ""}
        for name, part in (
            ("attack", self.attack),
            ("", self.common),
            ("dataset", self.dataset),
            ("", self.more),
        ):
            count = len(part.components)
            found, rest = part.collect(rest[:count]), rest[count:]
            options |= {name: found} if name else found
        return options

    def look_ahead(self, *values: Any) -> str:
        """What the training will see, and how long it will take."""
        return words.plan(ops.OPERATIONS["plan"](**self.collect(values)))

    def submit(self, *values: Any) -> tuple[Any, str]:
        """Queue it and choose it in the list; what lies ahead makes room for what is going on."""
        run = ops.OPERATIONS["submit"](**self.collect(values))["run"]
        return gr.update(choices=_choices(), value=run), ""

    def look(self, run: str | None) -> tuple[Any, str]:
        """The list and the chosen run as they are now; without a choice, the newest."""
        choices = _choices()
        ids = [value for _, value in choices]
        chosen = run if run in ids else next(iter(ids), None)
        if chosen is None:
            return gr.update(choices=[], value=None), words.sentence("No run yet.")
        try:
            shown = words.run(ops.OPERATIONS["show"](run=chosen))
        except LabError as error:  # deleted this moment
            shown = words.sentence(str(error))
        return gr.update(choices=choices, value=chosen), shown

    def show_in_explore(self, run: str | None) -> list[Any]:
        """The finished model beside what it was made from."""
        shown = ops.OPERATIONS["show"](run=run or "")
        if shown["condition"] != "done":
            raise LabError(f"This run is {shown['condition']}; a finished one can be opened.")
        base = shown["recipe"].get("base") or ""
        options = {"b": shown["checkpoint"], **({"a": base} if base else {})}
        return [gr.Tabs(selected=self.explore_id), *self.explore.open(options)]


def _asker(name: str) -> Any:
    def ask(run: str | None) -> None:
        ops.OPERATIONS[name](run=run or "")

    ask.__name__ = f"{name}_run"
    return ask


def _choices() -> list[tuple[str, str]]:
    lines = ops.OPERATIONS["runs"]()[:LISTED]
    return [(f"{line['title']} · {words.condition(line)}", line["name"]) for line in lines]


def build(explore: Explore) -> Attack:
    """The tab, inside an open gr.Tab; its models open in the Explore tab."""
    return Attack(explore)
