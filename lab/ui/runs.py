"""The runs of this lab: watch one or two of them, stop, resume, rename, compare and delete them."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.people import who
from lab.supervisor import SLOTS
from lab.ui import words
from lab.ui.controls import HEARD, QUIET
from lab.ui.guard import guarded

EVERY = 4.0  # seconds between two looks at the runs: each costs the training what page and browser take to draw it
SLICES: dict[str, Any] = {"concurrency_id": "slices", "concurrency_limit": SLOTS, "show_progress": "hidden"}
LISTED = 20  # runs, the newest first
CONFIRM = "() => { if (!confirm('Delete this run and all that it saved? Its finished model stays.')) throw new Error('kept'); }"
FOCUS = (
    "() => setTimeout(() => document.querySelector('#new-title input, #new-title textarea')?.select(), 150)"
)
FITTING = {  # buttons that fit a condition; the others are always there
    "stop": ("queued", "running", "lost"),
    "resume": ("stopped", "failed", "lost"),
    "open": ("done",),
}


SCROLL = """() => setTimeout(() => {
    const place = document.getElementById("ELEMENT"), top = place.getBoundingClientRect().top;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (top < 0 || top > innerHeight / 2) place.scrollIntoView({block: "start", behavior: calm ? "auto" : "smooth"});
}, 50)"""


def into_view(element: str) -> str:
    """JavaScript that scrolls to an element, unless its upper edge is in the upper half of the screen already."""
    return SCROLL.replace("ELEMENT", element)


class Runs:
    """The panel's components and handlers; `looked` is what brings it up to date after an event."""

    def __init__(self) -> None:
        self.layout()
        self.looked: dict[str, Any] = {
            "fn": self.look,
            "inputs": [self.run, self.other, self.seen],
            "outputs": [self.run, self.other, self.live, self.details, *self.buttons.values(), self.seen],
            **QUIET,
        }
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """The list, what can be done with the chosen run, and how it is."""
        self.run = gr.Radio([], label="Runs", elem_id="runs")
        with gr.Row(elem_classes="presets"):
            self.buttons = {
                name: gr.Button(label, size="sm", min_width=80, interactive=False, elem_id=f"{name}-run")
                for name, label in (("stop", "Stop"), ("resume", _resume()), ("open", "Open in Explore"))
            }
            self.again = gr.Button("Retry with changes", size="sm", min_width=140, elem_id="again-run")
            self.rename = gr.Button("Rename…", size="sm", min_width=80, elem_id="rename-run")
            self.delete = gr.Button("Delete", size="sm", min_width=80, elem_id="delete-run")
        with gr.Row(visible=False, elem_classes="renaming") as self.renaming:
            self.title = gr.Textbox(label="New title", max_length=80, elem_id="new-title", scale=3)
            self.save = gr.Button("Save", size="sm", variant="primary", min_width=80, scale=0)
        self.other = gr.Dropdown([("nothing", "")], value="", label="Compare with", elem_id="other-run")
        self.live = gr.HTML(elem_id="live")
        with gr.Accordion("Recipe and log", open=False):
            self.details = gr.HTML(elem_id="recipe-and-log")
        self.timer, self.seen = gr.Timer(EVERY), gr.State([])

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        resumed = self.buttons["resume"].click(guarded(_asker("resume")), self.run, None, **HEARD)
        self.attends(resumed)
        asked = [resumed, self.buttons["stop"].click(guarded(_asker("stop")), self.run, None, **HEARD)]
        sure = self.delete.click(None, None, None, js=CONFIRM)
        asked.append(sure.success(guarded(_asker("delete")), self.run, None, **HEARD))
        opened = self.rename.click(guarded(self.begin), self.run, [self.renaming, self.title], **HEARD)
        opened.success(None, None, None, js=FOCUS)
        for event in (self.save.click, self.title.submit):
            asked.append(event(guarded(self.call), [self.run, self.title], self.renaming, **HEARD))
        for event in asked:
            event.success(**self.looked)
        self.run.input(lambda: gr.update(visible=False), None, self.renaming, **QUIET)
        for listener in (self.run.input, self.other.input, self.timer.tick):
            listener(**self.looked)

    def attends(self, asked: Any) -> None:
        """After this event, go on with the chosen run where it trains only while somebody asks."""
        done = asked.success(guarded(self.attend), self.run, None, api_visibility="private", **SLICES)
        done.then(**self.looked)

    # Handlers --------------------------------------------------------------------------------------------------------

    def look(self, run: str | None, other: str | None, seen: list[str]) -> list[Any]:
        """The list and the chosen runs as they are now; what is as it was seen before is not sent again."""
        choices, conditions = run_choices()
        ids = [value for _, value in choices]
        chosen = run if run in ids else next(iter(ids), None)
        beside = other if other in ids and other != chosen else ""
        rest = [("nothing", ""), *(choice for choice in choices if choice[1] != chosen)]
        fits = [conditions.get(chosen or "") in FITTING[name] for name in self.buttons]
        found = [
            {"choices": choices, **({} if run == chosen else {"value": chosen})},
            {"choices": rest, **({} if (other or "") == beside else {"value": beside})},
            *({"value": html} for html in _shown(chosen, beside)),
            *({"interactive": each} for each in fits),
        ]
        return _news(found, seen)

    def attend(self, run: str | None) -> None:
        """A slice of a run that trains only while somebody asks; the others do without."""
        if ops.OPERATIONS["show"](run=run or "")["attended"]:
            ops.OPERATIONS["attend"](run=run or "")

    def begin(self, run: str | None) -> tuple[Any, str]:
        """Open the row for a new title, with the old one in it."""
        return gr.update(visible=True), ops.OPERATIONS["show"](run=run or "")["title"]

    def call(self, run: str | None, title: str) -> Any:
        """Give the chosen run its new title."""
        ops.OPERATIONS["rename"](run=run or "", title=title.strip())
        return gr.update(visible=False)


def _resume() -> str:
    """What the button is called that goes on with a run."""
    return "Resume" if ops.in_background() else "Continue"


def _news(found: list[dict[str, Any]], seen: list[str]) -> list[Any]:
    """Updates for what is not as it was seen, and what has now been seen."""
    now = [json.dumps(update) for update in found]
    before = seen or [""] * len(now)
    return [
        *(
            gr.skip() if old == new else gr.update(**each)
            for each, old, new in zip(found, before, now, strict=True)
        ),
        now,
    ]


def _shown(chosen: str | None, beside: str) -> tuple[str, str]:
    """How the chosen run is, alone or beside another one, and its recipe and log."""
    if chosen is None:
        return words.sentence("No run yet. Choose what to train and press Start."), ""
    try:
        run = ops.OPERATIONS["show"](run=chosen)
        live = words.comparison(ops.OPERATIONS["diff"](a=chosen, b=beside)) if beside else words.run(run)
        return live, words.recipe_and_log(run)
    except LabError as error:  # deleted this moment
        return words.sentence(str(error)), ""


def _asker(name: str) -> Any:
    def ask(run: str | None) -> None:
        ops.OPERATIONS[name](run=run or "")

    ask.__name__ = f"{name}_run"
    return ask


def run_choices() -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The newest runs with their states, and each one's condition by its id; a study's are shown with the study."""
    lines = [line for line in ops.OPERATIONS["runs"]() if not line["study"]][:LISTED]
    choices = [(f"{line['title']}{_owner(line)} · {words.condition(line)}", line["name"]) for line in lines]
    return choices, {line["name"]: line["state"] for line in lines}


def _owner(line: dict[str, Any]) -> str:
    """Whose it is, for a teacher, who sees those of others."""
    return "" if line["owner"] == who().name else f" · {line['owner']}"
