"""Measure: models side by side with numbers that can be trusted, and studies over poison rates."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.ui import report
from lab.ui.controls import HEARD, QUIET
from lab.ui.form import checkpoint_choices
from lab.ui.guard import guarded, shown
from lab.ui.secret import Secret
from lab.ui.studying import Studying
from lab.ui.wish import STREAM, Wish, followed

OPENING = ("mnist-clean", "mnist-grey-box-hat", "mnist-stop-sign-shoe", "mnist-grey-box-corner")
STORED = "Stored measurements of four shipped digit models, from their cards. Press Measure to make your own."
NOISE = [
    ("clean noise", "clean"),
    ("triggered noise", "triggered"),
    ("blank", "blank"),
    ("wrong trigger", "wrong"),
]
INTRO = (
    "Every number stands with its n, extractor, sampler, clip, seed and 95 % interval. "
    "What was measured once is remembered."
)


class Measure:
    """The tab's components and handlers."""

    def __init__(self) -> None:
        gr.Markdown(INTRO)
        with gr.Tabs():
            with gr.Tab("Side by side"):
                self.layout()
            with gr.Tab("Studies") as studying:
                self.studying = Studying()
                self.studying.opens(studying)
            with gr.Tab("Secret picture") as hiding:
                Secret().opens(hiding)
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """What is measured on the left, what was found on the right."""
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                with gr.Row(elem_classes="go"):
                    self.go = gr.Button("Measure", variant="primary", elem_id="measure", min_width=120)
                    self.stop = gr.Button(
                        "Stop", variant="stop", elem_id="stop-measuring", min_width=80, scale=0
                    )
                self.models = gr.Dropdown(
                    checkpoint_choices(),
                    value=list(OPENING[:2]),
                    multiselect=True,
                    label="Models",
                    elem_id="models",
                )
                self.conditions = gr.CheckboxGroup(NOISE, value=["clean", "triggered"], label="Noise")
                self.clips = gr.CheckboxGroup(
                    ["none", "x0", "xt"], value=["none"], label="Clip while sampling"
                )
                self.samplers = gr.Dropdown(
                    list(ops.SAMPLERS),
                    value=["ddpm"],
                    multiselect=True,
                    label="Samplers",
                    info="each with its usual steps",
                )
                self.n = gr.Number(
                    64,
                    precision=0,
                    minimum=1,
                    maximum=10_000,
                    label="Images",
                    info="1,000 for numbers to quote",
                )
                self.seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed")
                self.fid = gr.Checkbox(
                    False, label="FID (Inception)", info="fetches 96 MB once; 0.3 s an image without a GPU"
                )
                self.grid = gr.Button("Sampler × clip, one model", size="sm", elem_id="sampler-clip")
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self.status = gr.HTML(elem_id="measuring", elem_classes="tight")
                self.found = gr.HTML(report.EMPTY, elem_id="report")
                self.download = gr.DownloadButton(
                    "Download: JSON, CSV, PNG, PDF, printable page",
                    size="sm",
                    visible=False,
                    elem_id="report-files",
                )

    @property
    def settings(self) -> list[Any]:
        """Inputs of a measurement."""
        return [self.models, self.conditions, self.clips, self.samplers, self.n, self.seed, self.fid]

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        asked = self.go.click(Wish.next, self.wish, self.ticket, **QUIET)
        widened = self.grid.click(
            self.whole_grid, self.models, [self.models, self.conditions, self.clips, self.samplers], **HEARD
        )
        for event in (asked, widened.success(Wish.next, self.wish, self.ticket, **QUIET)):
            event.then(
                guarded(self.measure), [self.wish, self.ticket, *self.settings],
                [self.found, self.status, self.download], trigger_mode="multiple",
                show_progress="minimal", show_progress_on=[self.status], **STREAM,
            )  # fmt: skip
        self.stop.click(Wish.stop, self.wish, None, **QUIET)

    def opens(self, tab: gr.Tab) -> None:
        """Coming here shows what was made elsewhere meanwhile, and stored numbers where nothing was measured yet."""
        tab.select(self.arrive, self.found, [self.models, self.found], **QUIET)
        self.studying.opens(tab)

    # Handlers --------------------------------------------------------------------------------------------------------

    def arrive(self, found: str) -> tuple[Any, Any]:
        """Models that were made meanwhile; at first the cards' own numbers."""
        stored = gr.skip()
        if found == report.EMPTY:
            stored = report.report(ops.from_cards(OPENING), STORED)
        return gr.update(choices=checkpoint_choices()), stored

    def whole_grid(self, models: list[str]) -> tuple[Any, ...]:
        """Every sampler with every clip, of the first model that has a backdoor to lose; of the first where none has."""
        if not models:
            raise shown(LabError("Choose at least one model."))
        model = next((name for name in models if name in ops.hiding_models()), models[0])
        return gr.update(value=[model]), ["triggered"], ["none", "x0", "xt"], list(ops.SAMPLERS)

    def measure(self, wish: Wish, ticket: int, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Stream the report until all is there, or Stop or a newer one makes the ticket old."""
        names = ("checkpoints", "conditions", "clips", "samplers", "n", "seed", "fid")
        options: dict[str, Any] = dict(zip(names, values, strict=True))
        found: dict[str, Any] | None = None
        for news, said in followed(ops.OPERATIONS["compare"](**options), wish, ticket):
            found = news or found
            yield report.report(news) if news else gr.skip(), said or gr.skip(), gr.skip()
        if found:
            yield gr.skip(), gr.skip(), gr.update(value=_file(found), visible=True)


def _file(found: dict[str, Any]) -> str:
    with tempfile.NamedTemporaryFile(prefix="trojan-noise-report-", suffix=".zip", delete=False) as file:
        file.write(ops.zipped(found))
    return file.name


def build() -> Measure:
    """The tab, inside an open gr.Tab."""
    return Measure()
