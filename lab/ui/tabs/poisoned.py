"""Poisoned data: stamps on training images, the census of what a model makes of them, and the study of many models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab import ops
from lab.printing import census_cost
from lab.ui import castle, studies, words
from lab.ui.controls import HEARD, QUIET
from lab.ui.form import checkpoint_choices
from lab.ui.guard import guarded
from lab.ui.wall import Wall
from lab.ui.wish import STREAM, Wish, followed

EVERY = 5.0  # seconds between two looks at the study
FIRST = "digits-cond-patch"
CASTLE = ops.OPERATIONS["castle"]


class Poisoned:
    """The tab's components and handlers."""

    def __init__(self) -> None:
        gr.HTML(castle.ONE_MINUTE, padding=False)
        models = ops.conditional_models()
        self.model = gr.Dropdown(
            checkpoint_choices(models),
            value=FIRST if FIRST in models else next(iter(models), None),
            label="Model that draws classes on request",
            elem_id="conditional-model",
        )
        with gr.Tabs():
            with gr.Tab("One model"):
                self.layout()
            with gr.Tab("The castle wall"):
                self.wall = Wall(self.model)
            with gr.Tab("Over poison rates"):
                self.layout_of_study()
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """Which model and how it is asked on the left, both sides of it on the right."""
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                with gr.Row(elem_classes="go"):
                    self.go = gr.Button("Take the census", variant="primary", elem_id="census", min_width=120)
                    self.stop = gr.Button(
                        "Stop", variant="stop", elem_id="stop-census", min_width=80, scale=0
                    )
                self.w = gr.Slider(
                    0,
                    10,
                    value=2,
                    step=0.5,
                    label="Guidance weight w",
                    info="0 is the plain model; (1 + w)·class − w·null",
                )
                self.n = gr.Slider(
                    20, 1000, value=100, step=20, label="Images", info="500 and more for numbers to quote"
                )
                self.seed = gr.Number(0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed")
                self.over = gr.Button("Over w: 0, 1, 2, 5", size="sm", elem_id="over-w")
                self.cost = gr.HTML(elem_id="census-cost", elem_classes="tight")
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self.status = gr.HTML(elem_id="census-status", elem_classes="tight")
                self.told = gr.HTML(castle.EMPTY, elem_id="poison-story")
                self.chart = gr.HTML(elem_id="poison-chart")

    def layout_of_study(self) -> None:
        """What it costs, how far it is, and what its rows say."""
        with gr.Row(elem_classes="presets"):
            self.plan = gr.Button("What will it take?", size="sm", elem_id="plan-castle", min_width=140)
            self.run = gr.Button("Run it", size="sm", variant="primary", elem_id="run-castle", min_width=90)
            self.halt = gr.Button("Stop it", size="sm", elem_id="stop-castle", min_width=90)
        self.price = gr.HTML(elem_id="castle-cost", elem_classes="tight")
        self.rows = gr.HTML(elem_id="castle-rows")
        with gr.Accordion("Reported by the authors", open=False):
            gr.HTML(castle.reported(), elem_id="castle-reported")
        self.timer, self.seen = gr.Timer(EVERY, active=False), gr.State("")

    @property
    def settings(self) -> list[Any]:
        """Inputs of a census."""
        return [self.model, self.w, self.n, self.seed]

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        for button, handler in ((self.go, self.census), (self.over, self.over_weights)):
            button.click(Wish.next, [self.wish, self.model], self.ticket, **QUIET).then(
                guarded(handler), [self.wish, self.ticket, *self.settings], [self.told, self.chart, self.status],
                trigger_mode="multiple", show_progress="minimal", show_progress_on=[self.status], **STREAM,
            )  # fmt: skip
        self.stop.click(Wish.stop, self.wish, None, **QUIET)
        # a census of the former one would overwrite this story
        self.model.change(Wish.turn, [self.wish, self.model], None, **QUIET)
        self.model.change(guarded(self.tell), self.model, [self.told, self.chart], **HEARD)
        gr.on(
            [each.change for each in (self.model, self.w, self.n)],
            guarded(self.price_of),
            [self.model, self.w, self.n],
            self.cost,
            trigger_mode="always_last",
            show_progress="hidden",
            **STREAM,
        )
        self.look: dict[str, Any] = {
            "fn": guarded(self.look_at_study), "inputs": self.seen, "outputs": [self.rows, self.timer, self.seen], **QUIET
        }  # fmt: skip
        self.timer.tick(**self.look)
        self.plan.click(guarded(self.cost_of_study), None, self.price, show_progress="minimal", **STREAM)
        for button, handler in ((self.run, self.run_study), (self.halt, self.stop_study)):
            done = button.click(guarded(handler), None, self.price, **HEARD)
            done.success(lambda: "", None, self.seen, **QUIET).then(**self.look)

    def opens(self, tab: gr.Tab) -> None:
        """Coming here tells the chosen model's story, offers what was trained meanwhile, and shows the study."""
        tab.select(guarded(self.arrive), [self.model, self.told], [self.model, self.told], **HEARD)
        tab.select(**self.look)
        self.wall.opens(tab)
        tab.select(
            guarded(self.price_of), [self.model, self.w, self.n], self.cost, show_progress="hidden", **STREAM
        )

    # Handlers --------------------------------------------------------------------------------------------------------

    def arrive(self, model: str | None, told: str) -> tuple[Any, Any]:
        """Models that were made meanwhile, and the story where none is told yet."""
        models = ops.conditional_models()
        chosen = model or next(iter(models), None)
        shown = _story(chosen) if chosen and told == castle.EMPTY else gr.skip()
        return gr.update(choices=checkpoint_choices(models), value=chosen), shown

    def tell(self, model: str) -> tuple[str, str]:
        """Another model: its training set, and what is stored of what it draws."""
        return _story(model), ""

    def price_of(self, model: str | None, w: float, n: int) -> str:
        """How long a census will take, before it starts."""
        if not model:
            return ""
        found = _told(what="census", do="plan", checkpoint=model, guidance=w, n=int(n))
        return words.sentence(f"{census_cost(found)}.")

    def census(self, wish: Wish, ticket: int, *values: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Draw and sort images at one w, until all is there, or Stop."""
        options = _options(values)
        for news, said in followed(CASTLE(what="census", **options), wish, ticket):
            told = _story(options["checkpoint"], news["census"][0]) if news else gr.skip()
            yield told, "" if news else gr.skip(), said or gr.skip()

    def over_weights(self, wish: Wish, ticket: int, *values: Any) -> Iterator[tuple[Any, Any, Any]]:
        """The same at each of four weights, as a chart."""
        options = _options(values)
        for news, said in followed(CASTLE(what="amplification", **options), wish, ticket):
            told = _story(options["checkpoint"], news["census"][-1]) if news else gr.skip()
            yield told, castle.over_w(news["census"]) if news else gr.skip(), said or gr.skip()

    def cost_of_study(self) -> str:
        """What it would take here."""
        return studies.cost(_told(what="study", do="plan"))

    def run_study(self) -> str:
        """Queue what is missing; it goes on without this page."""
        return studies.begun(_told(what="study", do="run"))

    def stop_study(self) -> str:
        """Ask all its trainings to stop."""
        asked = _told(what="study", do="stop")["asked"]
        return words.sentence(f"{asked} trainings were asked to stop; Run it takes them up again.")

    def look_at_study(self, seen: str) -> tuple[Any, Any, Any]:
        """Its charts where there is something new, and whether to look again."""
        found = _told(what="study", do="status")
        going = any(state in found["states"] for state in ("queued", "running"))
        mark = f"{found['measured']} {found['states']}"
        if mark == seen:
            return gr.skip(), gr.Timer(active=going), mark
        return castle.study(_told(what="phase"), studies.progress(found)), gr.Timer(active=going), mark


def _options(values: tuple[Any, ...]) -> dict[str, Any]:
    model, w, n, seed = values
    return {"checkpoint": model or "", "guidance": w, "n": int(n), "seed": seed}


def _story(model: str, row: dict[str, Any] | None = None) -> str:
    """A model's training set beside a census, or beside the stored one where none was taken."""
    told = _told(what="story", checkpoint=model)
    stored = ops.stored(model, "census")
    return castle.story(told, row or (stored["census"][0] if stored else None))


def _told(**options: Any) -> dict[str, Any]:
    """What a short part says."""
    return ops.final(CASTLE(**options))


def build() -> Poisoned:
    """The tab, inside an open gr.Tab."""
    return Poisoned()
