"""Forms made from option models: one component per field, one group per variant; tabs never name an option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from lab.variants import Registry, Variant

SLIDER_RANGE = 1000  # a wider range of numbers is typed, not slid


def control(name: str, field: FieldInfo, own: Sequence[str]) -> Any:
    """The component for one option, with its bounds, default and help; own: names that a person gave."""
    label, info, value = field.title or name.replace("_", " "), field.description, field.default
    low, high = _bound(field, "ge", "gt"), _bound(field, "le", "lt")
    if _is_own(field):
        return gr.Dropdown(["", *own], value=value, label=label, info=info, allow_custom_value=True)
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


def _bound(field: FieldInfo, *names: str) -> Any:
    for entry in field.metadata:
        for name in names:
            if hasattr(entry, name):
                return getattr(entry, name)
    return None


class Chooser:
    """A dropdown of kinds and, below it, the options of the chosen one."""

    def __init__(self, registry: Registry, default: dict[str, Any], own: Sequence[str] = ()):
        self.registry = registry
        self.kind = gr.Dropdown(
            [(title(variant), kind) for kind, variant in registry.items()],
            value=default["kind"],
            label=registry.what.capitalize(),
            elem_id=f"{registry.what}-kind",
        )
        self.groups: dict[str, gr.Column] = {}
        self.fields: dict[tuple[str, str], Any] = {}
        for kind, variant in registry.items():
            self._group(kind, variant, kind == default["kind"], own)
        self.kind.change(self._only, self.kind, list(self.groups.values()), **QUIET)

    def _group(self, kind: str, variant: type[Variant], visible: bool, own: Sequence[str]) -> None:
        with gr.Column(visible=visible, elem_classes="options") as self.groups[kind]:
            gr.Markdown(variant.help(), elem_classes="help")
            for name, field in variant.model_fields.items():
                self.fields[kind, name] = control(name, field, own)

    @property
    def components(self) -> list[Any]:
        """The dropdown and all options: inputs of a handler that calls `collect`."""
        return [self.kind, *self.fields.values()]

    @property
    def own(self) -> list[Any]:
        """The dropdowns that choose something of one's own by its name."""
        fields = {key: self.registry[key[0]].model_fields[key[1]] for key in self.fields}
        return [self.fields[key] for key, field in fields.items() if _is_own(field)]

    def collect(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values of `components` as plain JSON of the chosen variant."""
        kind, rest = values[0], dict(zip(self.fields, values[1:], strict=True))
        return {"kind": kind, **{name: value for (of, name), value in rest.items() if of == kind}}

    def show(self, variant: dict[str, Any]) -> list[Any]:
        """Updates of `components` that show a variant."""
        return [variant["kind"]] + [
            variant.get(name, gr.skip()) if kind == variant["kind"] else gr.skip()
            for kind, name in self.fields
        ]

    def _only(self, kind: str) -> list[Any]:
        return [gr.update(visible=kind == each) for each in self.groups]


QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def title(variant: type[Variant]) -> str:
    """What a dropdown shows: the kind in words."""
    return variant.kind.replace("_", " ")
