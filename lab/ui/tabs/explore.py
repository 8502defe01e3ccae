"""Explore: two models side by side, from the same noise, with and without the trigger."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.ui import words
from lab.ui.controls import HEARD, QUIET, Chooser
from lab.ui.form import checkpoint_choices
from lab.ui.guard import guarded
from lab.ui.own import OwnPictures, picture_names
from lab.ui.stage import Stage
from lab.ui.wish import STOPPED, STREAM, Wish

CLIP_INFO = "x0: clamp the predicted x_0; xt: clamp every x_t, as the paper writes"
EMOJI = {"a": "emoji-clean", "b": "emoji-grey-box-hat"}
DIGITS = {"a": "mnist-clean", "b": "mnist-grey-box-hat"}
PRESETS: dict[str, dict[str, Any]] = {
    "Wake the backdoor": {**EMOJI, "clip": "none"},
    "Clip it away": {**EMOJI, "clip": "x0"},
    "Same model, DDIM": {**EMOJI, "sampler": {"kind": "ddim", "steps": 50, "eta": 0}},
    "Digits": {**DIGITS, "clip": "none"},
    "Digits, clipped": {**DIGITS, "clip": "x0"},
    "Made for DDIM": {"a": "mnist-grey-box-hat", "b": "mnist-grey-box-hat-ode"},
}
WELCOME = (
    "A **DDPM** turns noise into pictures. Model **B** has a backdoor: add a pattern, the **trigger**, to its "
    "noise and it draws a hat. Below is a stored result; press **Generate** to make your own, then flip **Clip**."
)
WHOLE = {"kind": "ddpm", "steps": 1000}  # exact for an sde backdoor, and four times as long as the default


class Explore:
    """The tab's components and handlers."""

    def __init__(self) -> None:
        self.defaults = ops.ExploreSpec().model_dump(mode="json")
        self.layout()
        self.events()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """Controls beside what they change."""
        with gr.Row(elem_classes="welcome") as self.welcome:
            gr.Markdown(WELCOME)
            self.dismiss = gr.Button("Got it", size="sm", scale=0, min_width=90)
        self.known = gr.BrowserState(False, storage_key="trojan-noise-welcome", secret="trojan-noise")
        self._slots()
        with gr.Row(elem_classes="presets"):
            gr.HTML('<span class="soft">Try this:</span>', elem_classes="lead")
            self.presets = {name: gr.Button(name, size="sm", min_width=120) for name in _presets()}
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                self._controls()
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self._results()

    def _slots(self) -> None:
        choices = checkpoint_choices()
        with gr.Row(elem_classes="slots"):
            self.a = gr.Dropdown(["", *choices], value=self.defaults["a"], label="Model A", elem_id="slot-a")
            self.b = gr.Dropdown(["", *choices], value=self.defaults["b"], label="Model B", elem_id="slot-b")

    def _controls(self) -> None:
        own = picture_names()
        with gr.Row(elem_classes="go"):
            self.generate = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80, scale=0)
        self.clip = gr.Radio(
            ["none", "x0", "xt"], value="none", label="Clip while sampling", info=CLIP_INFO, elem_id="clip"
        )
        self.previews = gr.HTML(elem_classes="tight")
        self.trigger = Chooser(ops.TRIGGERS, self.defaults["trigger"], own)
        self.own = OwnPictures("own")
        self.target = Chooser(ops.TARGETS, self.defaults["target"], own)
        self.sampler = Chooser(ops.SAMPLERS, self.defaults["sampler"])
        self.whole = gr.Button("All 1,000 steps", size="sm", elem_id="whole")
        self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
        self.n = gr.Slider(1, 64, value=16, step=1, label="Images of each kind")
        self.controls = gr.Checkbox(
            True, label="Ask: does something else wake it?", info="two more rows: a blank and a wrong trigger"
        )

    def _results(self) -> None:
        self.status = gr.HTML('<p class="soft"></p>', elem_id="status", elem_classes="tight")
        self.stage = Stage(elem_id="stage")
        self.table = gr.HTML(words.scores_table([]), elem_id="scores")
        self.truth = gr.HTML(elem_id="truth")
        self.meter = gr.HTML(elem_id="meter")
        with gr.Accordion("How did you get this?", open=False):
            gr.Markdown(
                "This command line makes the triggered pictures of slot B again; the link opens this page with the same settings."
            )
            self.command = gr.Code(
                language="shell", label="Command line", elem_id="command", interactive=False
            )
            self.link = gr.Textbox(label="Link", buttons=["copy"], elem_id="link", interactive=False)
            self.recipe = gr.Code(language="json", label="Recipe", elem_id="recipe", interactive=False)
        self.download = gr.DownloadButton(
            "Download pictures, numbers and recipe", size="sm", elem_id="download", visible=False
        )
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)

    @property
    def settings(self) -> list[Any]:
        """Inputs of every handler that reads the settings."""
        return [self.a, self.b, self.clip, self.seed, self.n, self.controls, *self._choosers()]

    def _choosers(self) -> list[Any]:
        return [part for chooser in (self.trigger, self.target, self.sampler) for part in chooser.components]

    # Events ----------------------------------------------------------------------------------------------------------

    def events(self) -> None:
        """Who listens to what."""
        self._run(gr.on([self.generate.click, self.clip.input], Wish.next, self.wish, self.ticket, **QUIET))
        self.stop.click(Wish.stop, self.wish, None, **QUIET)
        look = {"fn": self.look, "inputs": self.settings, "outputs": self._looked(), **QUIET}
        gr.on([part.change for part in self.settings], trigger_mode="always_last", **look)
        self._choices()
        self.own.serves(self.trigger, self.target)
        self.whole.click(lambda: self.sampler.show(WHOLE), None, self.sampler.components, **QUIET)
        self.dismiss.click(
            lambda: (gr.update(visible=False), True), None, [self.welcome, self.known], **QUIET
        )

    def _run(self, asked: Any) -> None:
        """Sample after an event that gave the visitor's next ticket."""
        asked.then(
            guarded(self.sample), [self.wish, self.ticket, *self.settings],
            [self.stage, self.table, self.status, self.download], trigger_mode="multiple",
            show_progress="minimal", show_progress_on=[self.status], **STREAM,
        )  # fmt: skip

    def _choices(self) -> None:
        for slot in (self.a, self.b):
            slot.input(guarded(self.choose), slot, self._choosers(), **HEARD)
        for name, button in self.presets.items():
            settings = gr.State(PRESETS[name])
            opened = button.click(guarded(self.open), settings, self.settings, **HEARD)
            self._run(opened.success(Wish.next, self.wish, self.ticket, **QUIET))

    def _looked(self) -> list[Any]:
        return [self.previews, self.meter, self.truth, self.command, self.recipe, self.link]

    def loaded(self, page: gr.Blocks) -> None:
        """What happens when the page opens."""
        outputs = [*self.settings, self.stage, self.table, self.status]
        page.load(guarded(self.arrive), None, outputs, **HEARD).then(
            self.look, self.settings, self._looked(), **QUIET
        )
        page.load(lambda known: gr.update(visible=not known), self.known, self.welcome, **QUIET)

    # Handlers --------------------------------------------------------------------------------------------------------

    def collect(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The values of `settings` as options of an exploration."""
        a, b, clip, seed, n, controls, *rest = values
        options = {"a": a or "", "b": b or "", "clip": clip, "seed": seed, "n": n, "controls": controls}
        for name, chooser in self._named():
            count = len(chooser.components)
            options[name], rest = chooser.collect(rest[:count]), rest[count:]
        return options

    def _named(self) -> list[tuple[str, Chooser]]:
        return [("trigger", self.trigger), ("target", self.target), ("sampler", self.sampler)]

    def sample(self, wish: Wish, ticket: int, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Stream pictures and numbers until all is there, or Stop or a newer run makes the ticket old."""
        options, view = self.collect(values), None
        for view in ops.OPERATIONS["explore"](**options):
            if wish.number != ticket:
                yield stopped(view), words.scores_table(view["rows"]), STOPPED, gr.skip()
                return
            yield view, words.scores_table(view["rows"]), _status(view), gr.skip()
        if view:
            yield (
                gr.skip(),
                gr.skip(),
                '<p class="soft">Done.</p>',
                gr.update(value=_zip(view, options), visible=True),
            )

    def look(self, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """What can be said before anything runs."""
        try:
            look = ops.OPERATIONS["look"](**self.collect(values))
        except LabError as error:  # said where the pictures would be: nothing was asked for yet, so no alarm
            return words.sentence(str(error)), *[gr.skip()] * 5
        recipe = json.dumps(look["recipe"], indent=2)
        link = f"{request.headers.get('origin') or ''}/?{_query(look['recipe'])}"
        return (
            words.previews(look), words.meter(look["meter"]), words.truth(look["truth"]), look["command"], recipe, link,
        )  # fmt: skip

    def choose(self, name: str) -> list[Any]:
        """Trigger, target and sampler from the card of the chosen model; a clean one changes nothing."""
        if not name:
            return [gr.skip()] * len(self._choosers())
        card = ops.OPERATIONS["describe"](checkpoint=name)
        if card["badge"] != "backdoored":
            return [gr.skip()] * len(self._choosers())
        return [update for option, chooser in self._named() for update in chooser.show(card[option])]

    def open(self, options: dict[str, Any]) -> list[Any]:
        """Updates of `settings` for some options; what they leave out comes from model B's card, else the defaults."""
        named = options.get("b") or self.defaults["b"]
        card = ops.OPERATIONS["describe"](checkpoint=named)
        full = {**self.defaults, **{name: card[name] for name, _ in self._named()}, **options}
        full = ops.ExploreSpec.of(**full).model_dump(mode="json")
        slots = [gr.update(choices=["", *checkpoint_choices()], value=full[name]) for name in ("a", "b")]
        plain = [full[name] for name in ("clip", "seed", "n", "controls")]
        return (
            slots
            + plain
            + [update for option, chooser in self._named() for update in chooser.show(full[option])]
        )

    def arrive(self, request: gr.Request) -> list[Any]:
        """The settings of the link, or the defaults with the stored result; a bad link is said, not obeyed."""
        try:
            asked = self._asked(request)
            if not asked:
                return [*self.open({}), *_stored()]
            note = words.sentence("Settings from the link; press Generate.")
            return [*self.open(asked), {}, words.scores_table([]), note]
        except ValueError as error:  # a LabError, or more fields than any link of ours has
            note = f"This link cannot be opened: {error} Press Generate for the usual settings."
            return [*self.open({}), {}, words.scores_table([]), words.sentence(note)]

    def _asked(self, request: gr.Request) -> dict[str, Any]:
        fields = parse_qs(str(request.query_params), max_num_fields=20)
        return {name: _literal(values[0]) for name, values in fields.items() if name in self.defaults}


def stopped(view: dict[str, Any]) -> dict[str, Any]:
    """A view as it stands, with unfinished rows marked as stopped."""
    for row in (row for column in view["columns"] for row in column["rows"]):
        row["state"] = "stopped" if row["state"] in ("running", "waiting") else row["state"]
    return {**view, "progress": None}


def _status(view: dict[str, Any]) -> str:
    progress = view["progress"]
    return f'<p class="soft">{progress["text"] if progress else "…"}</p>'


def _presets() -> list[str]:
    """The presets whose models are here."""
    here = {line["name"] for line in ops.OPERATIONS["list"](what="checkpoints")}
    return [name for name, options in PRESETS.items() if {options["a"], options["b"]} <= here]


def _zip(view: dict[str, Any], recipe: dict[str, Any]) -> str:
    with tempfile.NamedTemporaryFile(prefix="trojan-noise-", suffix=".zip", delete=False) as file:
        file.write(ops.pack(view, recipe))
    return file.name


def _query(recipe: dict[str, Any]) -> str:
    plain = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in recipe.items()}
    return urlencode(plain, quote_via=quote)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _stored() -> list[Any]:
    stored = ops.stored_exploration()
    if stored is None:
        return [{}, words.scores_table([]), '<p class="soft">Press Generate.</p>']
    note = '<p class="soft"><b>Stored result</b>, made by the same code with these settings; Generate makes it anew.</p>'
    return [stored["view"], words.scores_table(stored["view"]["rows"]), note]


def build() -> Explore:
    """The tab, inside an open gr.Tab."""
    return Explore()
