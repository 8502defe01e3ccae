"""Forms made from option models: one component per field, one group per variant, variants within variants too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from lab.errors import LabError
from lab.variants import Options, Registry, Variant

SLIDER_RANGE = 1000  # a wider range of numbers is typed, not slid


def control(name: str, field: FieldInfo, own: Sequence[str], value: Any) -> Any:
    """The component for one option, with its bounds, value and help; own: names that a person gave."""
    label, info = field.title or name.replace("_", " "), field.description
    low, high = _bound(field, "ge", "gt"), _bound(field, "le", "lt")
    if _is_own(field):
        return gr.Dropdown(["", *own], value=value, label=label, info=info, allow_custom_value=True)
    if _is_options(field):
        return gr.Textbox(written(value), label=label, info=info, placeholder="{}")
    if get_origin(field.annotation) is Literal:
        return gr.Radio(list(get_args(field.annotation)), value=value, label=label, info=info)
    if field.annotation is bool:
        return gr.Checkbox(value, label=label, info=info)
    if field.annotation in (int, float):
        whole = field.annotation is int
        if low is not None and high is not None and high - low <= SLIDER_RANGE:
            return gr.Slider(low, high, value=value, step=1 if whole else 0.01, label=label, info=info)
        return gr.Number(
            value, precision=0 if whole else None, minimum=low, maximum=high, label=label, info=info
        )
    return gr.Textbox(value, label=label, info=info)


def _is_own(field: FieldInfo) -> bool:
    return (field.json_schema_extra or {}).get("widget") == "own"  # type: ignore[union-attr]


def _is_options(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Options)


def written(value: Options | dict[str, Any]) -> str:
    """Options within options as the JSON that a person edits: only what is not usual, and nothing where all is."""
    plain = value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, Options) else value
    return json.dumps(plain) if plain else ""


def read(text: str | None, name: str) -> Any:
    """What was written there."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise LabError(
            f"The {name} is written as JSON, with names in double quotes; got {text!r:.60}."
        ) from None


def _bound(field: FieldInfo, *names: str) -> Any:
    for entry in field.metadata:
        for name in names:
            if hasattr(entry, name):
                return getattr(entry, name)
    return None


class Form:
    """The options of a model, one component each; an option that is a variant itself is a chooser with its options."""

    def __init__(
        self,
        model: type[Options],
        names: Sequence[str] = (),
        own: Sequence[str] = (),
        prefix: str = "",
        start: Options | None = None,  # what it shows at first, if not the defaults
    ):
        self.model, self.parts = model, dict[str, Any]()
        for name in names or model.model_fields:
            field = model.model_fields[name]
            table = next((entry for entry in field.metadata if isinstance(entry, Registry)), None)
            if table is None:
                self.parts[name] = control(name, field, own, getattr(start, name, field.default))
            else:
                self.parts[name] = Chooser(table, getattr(start, name, field.default).as_json(), own, prefix)

    @property
    def components(self) -> list[Any]:
        """All components, in order: inputs of a handler that calls `collect`."""
        return [each for part in self.parts.values() for each in _components(part)]

    @property
    def own(self) -> list[Any]:
        """The dropdowns that choose something of one's own by its name."""
        fields = self.model.model_fields
        return [
            each
            for name, part in self.parts.items()
            for each in (part.own if isinstance(part, Chooser) else [part] if _is_own(fields[name]) else [])
        ]

    def collect(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values of `components` as plain JSON."""
        found, rest = {}, list(values)
        for name, part in self.parts.items():
            count = len(_components(part))
            if isinstance(part, Chooser):
                found[name] = part.collect(rest[:count])
            else:
                found[name] = read(rest[0], part.label) if self._is_json(name) else rest[0]
            rest = rest[count:]
        return found

    def show(self, options: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show these options; what is not among them stays."""
        updates: list[Any] = []
        for name, part in self.parts.items():
            if name not in options:
                updates += [gr.skip()] * len(_components(part))
            else:
                value = options[name]
                plain = written(value) if self._is_json(name) else value
                updates += part.show(value) if isinstance(part, Chooser) else [plain]
        return updates

    def _is_json(self, name: str) -> bool:
        return _is_options(self.model.model_fields[name])


def _components(part: Any) -> list[Any]:
    return part.components if isinstance(part, Chooser) else [part]


class Chooser:
    """A dropdown of kinds and, below it, the options of the chosen one."""

    def __init__(
        self, registry: Registry, default: dict[str, Any], own: Sequence[str] = (), prefix: str = ""
    ):
        self.registry = registry
        self.kind = gr.Dropdown(
            [(title(variant), kind) for kind, variant in registry.items()],
            value=default["kind"],
            label=registry.what.capitalize(),
            elem_id=f"{prefix}{registry.what}-kind",
        )
        self.groups: dict[str, gr.Column] = {}
        self.forms: dict[str, Form] = {}
        for kind, variant in registry.items():
            start = registry.parse(default) if kind == default["kind"] else None
            with gr.Column(visible=start is not None, elem_classes="options") as self.groups[kind]:
                gr.Markdown(variant.help(), elem_classes="help")
                self.forms[kind] = Form(variant, own=own, prefix=f"{prefix}{kind}-", start=start)
        self.kind.change(self._only, self.kind, list(self.groups.values()), **QUIET)

    @property
    def components(self) -> list[Any]:
        """The dropdown and all options: inputs of a handler that calls `collect`."""
        return [self.kind, *(each for form in self.forms.values() for each in form.components)]

    @property
    def own(self) -> list[Any]:
        """The dropdowns that choose something of one's own by its name."""
        return [each for form in self.forms.values() for each in form.own]

    def within(self, what: str) -> list[Chooser]:
        """The choosers of this kind of thing: itself, or those among its options."""
        if self.registry.what == what:
            return [self]
        parts = [part for form in self.forms.values() for part in form.parts.values()]
        return [found for part in parts if isinstance(part, Chooser) for found in part.within(what)]

    def choose_own(self, names: Sequence[str], name: str | None) -> list[Any]:
        """Updates of `kind` and `own`: what there is to choose from, and which one is chosen; None leaves that."""
        value: dict[str, Any] = {} if name is None else {"value": name}
        kind = next(kind for kind, form in self.forms.items() if form.own)
        dropdowns = [gr.update(choices=["", *names], **value) for _ in self.own]
        return [gr.skip() if name is None else kind, *dropdowns]

    def collect(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values of `components` as plain JSON of the chosen variant."""
        kind, first = values[0], 1
        for name, form in self.forms.items():
            count = len(form.components)
            if name == kind:
                return {"kind": kind, **form.collect(values[first : first + count])}
            first += count
        return {"kind": kind}  # no kind of this table, which whoever parses it says

    def show(self, variant: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show a variant; a kind that is no choice here is refused."""
        if variant["kind"] not in self.forms:
            raise LabError(
                f"The page offers no {self.registry.what} {variant['kind']!r}; the command line does."
            )
        return [variant["kind"]] + [
            update
            for kind, form in self.forms.items()
            for update in form.show(variant if kind == variant["kind"] else {})
        ]

    def _only(self, kind: str) -> list[Any]:
        return [gr.update(visible=kind == each) for each in self.groups]


QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
HEARD: dict[str, Any] = {**QUIET, "queue": True}  # only a queued event shows the sentence of a LabError


def title(variant: type[Variant]) -> str:
    """What a dropdown shows: the kind in words."""
    return variant.kind.replace("_", " ")
