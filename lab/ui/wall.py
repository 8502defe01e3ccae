"""The castle wall: what a poisoned model's pictures are to those who screen them, train on them, or ask the model to judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab import ops
from lab.ui import walls, words
from lab.ui.controls import QUIET
from lab.ui.guard import guarded
from lab.ui.wish import STREAM, Wish, followed

PARTS = {
    "detect": (
        "Detection: are poisoned pictures easier to find among those that the model drew?",
        walls.detection,
    ),
    "classify": ("Classifiers: does training on drawn pictures unlearn the stamp?", walls.classifiers),
    "diffusion-classifier": ("The model as a classifier: does the stamp turn it?", walls.votes),
    "replicate": ("Replication: does it copy what it was shown?", walls.replication),
}
STORED = words.sentence("Made beforehand, and stored with the lab; Find out makes it anew here.")
CASTLE = ops.OPERATIONS["castle"]


class Wall:
    """Parts of the wall's side: which one, how long it will take, and what was found."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)
        choices = [(text, what) for what, (text, _) in PARTS.items()]
        self.what = gr.Radio(choices, value="classify", label="What is asked", elem_id="wall-part")
        with gr.Row(elem_classes="presets"):
            self.plan = gr.Button("How long?", size="sm", elem_id="plan-wall", min_width=100)
            self.go = gr.Button("Find out", size="sm", variant="primary", elem_id="go-wall", min_width=100)
            self.stop = gr.Button("Stop", size="sm", variant="stop", elem_id="stop-wall", min_width=80)
        self.status = gr.HTML(elem_id="wall-status", elem_classes="tight")
        self.found = gr.HTML(elem_id="wall-found")
        self._events()

    def _events(self) -> None:
        inputs = [self.model, self.what]
        self.plan.click(guarded(self.price), inputs, self.status, show_progress="minimal", **STREAM)
        self.go.click(Wish.next, [self.wish, *inputs], self.ticket, **QUIET).then(
            guarded(self.find), [self.wish, self.ticket, *inputs], [self.found, self.status],
            trigger_mode="multiple", show_progress="minimal", show_progress_on=[self.status], **STREAM,
        )  # fmt: skip
        self.stop.click(Wish.stop, self.wish, None, **QUIET)
        for chosen in (self.what, self.model):  # what still runs was asked of another: it ends
            chosen.change(Wish.turn, [self.wish, *inputs], None, **QUIET)
            chosen.change(guarded(self.stored), inputs, self.found, **QUIET)

    def opens(self, tab: gr.Tab) -> None:
        """Coming here shows what is stored, where nothing was found yet."""
        tab.select(guarded(self.arrive), [self.model, self.what, self.found], self.found, **QUIET)

    def arrive(self, model: str | None, what: str, found: str | None) -> Any:
        """What is stored, unless something is shown."""
        return gr.skip() if found else self.stored(model, what)

    def stored(self, model: str | None, what: str) -> str:
        """What ships of this part; nothing where none does."""
        found = ops.stored(model or "", what)
        return STORED + PARTS[what][1](found) if found else ""

    def price(self, model: str | None, what: str) -> str:
        """What it would take here."""
        asked = PARTS[what][0].partition(":")[0]  # what is chosen next leaves this standing
        return walls.estimate(
            asked, ops.final(CASTLE(what=what, do="plan", checkpoint=model or ""))["seconds"]
        )

    def find(self, wish: Wish, ticket: int, model: str | None, what: str) -> Iterator[tuple[Any, Any]]:
        """Results as they come, until all is there, or Stop."""
        yield gr.skip(), words.busy("getting ready…")
        for news, said in followed(CASTLE(what=what, checkpoint=model or ""), wish, ticket):
            yield PARTS[what][1](news) if news else gr.skip(), said or gr.skip()
