"""The form of a training: from what, with which attack, on which data, how long; its values as options and back."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.ui import words
from lab.ui.controls import Chooser, Form
from lab.ui.own import OwnPictures, picture_names, set_names

SUBMIT = ops.OPERATIONS["submit"].options
FAVOURITE = "quick"
KEPT = ("seed", "threads", "save_every", "previews", "net", "classes")  # no preset says anything of them
FIRST = ("steps", "epochs")
MORE = (
    *("lr", "batch", "ema", "seed", "distill"),
    *("t_sampling", "loss", "snr_gamma", "warmup", "weight_decay", "grad_clip", "previews", "save_every"),
    *("net", "classes", "precision", "threads"),
)


class TrainingForm:
    """Components, top to bottom, and what they say."""

    def __init__(self) -> None:
        pictures = picture_names()
        self.title = gr.Textbox(
            "", label="Title", placeholder="what the new model is called", max_length=80, elem_id="title"
        )
        self.base = gr.Dropdown(base_choices(), value="mnist-clean", label="Start from", elem_id="base")
        self.attack = Chooser(ops.TABLES["attacks"], {"kind": "baddiffusion"}, pictures, "attack-")
        self.own = OwnPictures("attack-own")
        self.own.serves(self.attack)
        self.preset = gr.Radio(
            [(name.replace("_", " "), name) for name in ops.PRESETS],
            value=FAVOURITE,
            label="Training",
            elem_id="preset",
        )
        self.price = gr.HTML(
            words.price(FAVOURITE, ops.price(FAVOURITE)), elem_id="price", elem_classes="tight"
        )
        self.length = Form(SUBMIT, FIRST, start=ops.PRESETS[FAVOURITE])
        with gr.Accordion("Learning rate, batch, data and the finer points", open=False, elem_id="finer"):
            self.dataset = Chooser(ops.OPEN_DATASETS, {"kind": "digits"}, set_names(), "attack-")
            self.more = Form(SUBMIT, MORE, start=ops.PRESETS[FAVOURITE])

    @property
    def components(self) -> list[Any]:
        """Inputs of every handler that calls `collect`."""
        return [self.title, self.base, *(each for _, part in self._parts for each in part.components)]

    @property
    def _parts(self) -> list[tuple[str, Chooser | Form]]:
        """Option, or none where a part holds several, and part."""
        return [("attack", self.attack), ("", self.length), ("dataset", self.dataset), ("", self.more)]

    def collect(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The values of `components` as options of a submission."""
        title, base, *rest = values
        options: dict[str, Any] = {"title": title or "", "base": base or ""}
        for name, part in self._parts:
            count = len(part.components)
            found, rest = part.collect(rest[:count]), rest[count:]
            options |= {name: found} if name else found
        return options

    def show(self, options: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show the options of a submission; what the page cannot choose is refused."""
        choices = base_choices()
        if options["base"] not in [value for _, value in choices]:
            raise LabError(f"The page offers no model {options['base']!r} to start from; it may be gone.")
        updates = [options["title"], gr.update(choices=choices, value=options["base"])]
        for name, part in self._parts:
            updates += part.show(options[name] if name else options)
        return updates

    def follow(self, base: str) -> list[Any]:
        """Updates of the data set to what a chosen base was trained on: its images have the base's shape."""
        trained_on = (
            ops.OPERATIONS["describe"](checkpoint=base)["card"]["recipe"].get("dataset") if base else None
        )
        if not isinstance(trained_on, dict) or trained_on.get("kind") not in ops.OPEN_DATASETS:
            return [gr.skip()] * len(self.dataset.components)
        return self.dataset.show(trained_on)

    @property
    def training(self) -> list[Any]:
        """The name of the training options, what they cost, and they themselves: what `adopt` and `fit` update."""
        return [self.preset, self.price, *self.length.components, *self.more.components]

    @property
    def typed(self) -> list[Any]:
        """Of them those that a preset says: where one is typed over, `recognise` looks whose they are now."""
        parts = {**self.length.parts, **self.more.parts}
        return [part for name, part in parts.items() if name not in KEPT]

    def adopt(self, preset: str, base: str) -> list[Any]:
        """The options of a preset in the form."""
        options = {**ops.filled({"preset": preset, "base": base}), "epochs": 0}
        options = {name: value for name, value in options.items() if name not in KEPT}
        said = words.price(preset, ops.price(preset))
        return [preset, said, *self.length.show(options), *self.more.show(options)]

    def fit(self, attack: str, base: str, preset: str | None) -> list[Any]:
        """What fits the attack and the base; of a person's own settings only a teacher goes who would teach amiss."""
        wanted = ops.fitting(ops.TABLES["attacks"][attack], base)
        if preset is None:
            kept = [gr.skip()] * (2 + len(self.length.components))
            return [*kept, *self.more.show({} if wanted == "quick" else {"distill": 0.0})]
        return self.adopt(preset if {preset, wanted} == {"quick", "shipped"} else wanted, base)

    def recognise(self, *values: Any) -> list[Any]:
        """Whose the options of the form are: the preset, or nobody's but a person's own."""
        options = self.collect(values)
        preset = None if options["epochs"] else ops.named(options)
        return [preset, words.price(preset, ops.price(preset) if preset else None)]

    @property
    def choices(self) -> list[Any]:
        """Components whose choices others may have added to."""
        return [self.base, self.dataset.kind, *self.dataset.own, *self.own.outputs]

    def refresh(self) -> list[Any]:
        """Updates of `choices` to what there is now."""
        sets = self.dataset.choose_own(set_names(), None)
        return [gr.update(choices=base_choices()), *sets, *self.own.refresh()]


def base_choices() -> list[tuple[str, str]]:
    """What a training can start from, with its badge, and its name."""
    return [("from scratch", ""), *checkpoint_choices()]


def checkpoint_choices(among: Container[str] | None = None) -> list[tuple[str, str]]:
    """Every checkpoint of the lab, or those among some names: with its badge, and its name."""
    lines = ops.OPERATIONS["list"](what="checkpoints")
    return [
        (f"{line['name']}  {words.badge(line['state'])}", line["name"])
        for line in lines
        if among is None or line["name"] in among
    ]
