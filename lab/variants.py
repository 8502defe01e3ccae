"""Options and behaviour in one class: the same Variant gives the form, the flag, the API check and the JSON."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
)

from lab.errors import LabError, UnknownName


class Options(BaseModel):
    """Checked, frozen options; an unknown or out-of-range one is refused with a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    @property
    def image_steps(self) -> int:
        """Images × steps that are sampled for this; a served lab bounds them."""
        return 0

    @classmethod
    def of(cls, /, **values: Any):
        """Build from untrusted values; raises LabError with one sentence instead of pydantic's report."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise LabError(one_sentence(error, cls)) from None


class Variant(Options):
    """One choice of a kind: fields are its options, methods its behaviour, the docstring its help and source."""

    kind: ClassVar[str]

    @classmethod
    def help(cls) -> str:
        """First line of the docstring: what a person sees."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n")[0]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON that `Registry.parse` turns back into the same variant."""
        return {"kind": self.kind, **self.model_dump(mode="json")}


# A list with one entry may be written without brackets: --conditions clean
Alone = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))

V = TypeVar("V", bound=Variant)


class Registry(dict[str, type[V]], Generic[V]):
    """An explicit, ordered table from kind to class, with a did-you-mean for typing errors."""

    def __init__(self, what: str, *variants: type[V]):
        super().__init__((variant.kind, variant) for variant in variants)
        self.what = what
        if len(self) != len(variants):
            raise LabError(f"two {what}s share one kind.")

    __hash__ = object.__hash__  # type: ignore[assignment]  # a table is one thing: annotations need to hash it

    def __missing__(self, kind: object) -> type[V]:
        raise UnknownName(unknown(self.what, kind, list(self)))

    def parse(self, value: Any) -> V:
        """A variant from a variant, a kind, or a mapping with options and `kind`, which may be left out for the first."""
        if isinstance(value, Variant):
            return self._checked(value)
        options = {"kind": value} if isinstance(value, str) else value
        if isinstance(options, Mapping) and "kind" not in options:
            options = {"kind": next(iter(self)), **options}
        if not isinstance(options, Mapping) or not isinstance(options["kind"], str):
            raise LabError(f"A {self.what} is a name, or a mapping with 'kind'; got {str(value)[:80]!r}.")
        return self[options["kind"]].of(**{k: v for k, v in options.items() if k != "kind"})

    def _checked(self, value: Variant) -> V:
        if type(value) is not self[value.kind]:
            raise LabError(f"{type(value).__name__} is not a {self.what}.")
        return value  # type: ignore[return-value]

    @property
    def Field(self) -> Any:
        """Annotation for a pydantic field that holds any variant of this table."""
        return Annotated[Any, PlainValidator(self.parse), PlainSerializer(lambda v: v.as_json()), self]


def unknown(what: str, name: object, known: list[str]) -> str:
    """Sentence for a name that is not in a table, with the nearest one that is."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none yet'}."
    return f"There is no {what} called {str(name)[:80]!r}; {hint}"


# What is allowed, by the type of pydantic's complaint; the names in braces are its own.
ALLOWED = {
    "missing": "is needed",
    "int": "is a whole number",
    "float": "is a number",
    "finite_number": "is a finite number",
    "bool": "is true or false",
    "string_type": "is text",
    "string_too_long": "has at most {max_length} characters",
    "string_pattern_mismatch": "has a form that is not allowed (it must match {pattern})",
    "greater_than_equal": "is at least {ge}",
    "greater_than": "is more than {gt}",
    "less_than_equal": "is at most {le}",
    "less_than": "is less than {lt}",
    "literal_error": "is one of {expected}",
    "too_short": "has at least {min_length} entries",
    "too_long": "has at most {max_length} entries",
    "model": "is a mapping of options",
    "dict": "is a mapping of options",
    "list": "is a list",
    "tuple": "is a list",
}


def one_sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong in a pydantic report, as one sentence that names the option and what is allowed."""
    first = error.errors(include_url=False)[0]
    option = ".".join(part for part in first["loc"] if isinstance(part, str)) or model.__name__
    if first["type"] == "extra_forbidden":
        return unknown("option", option, list(model.model_fields))
    context = first.get("ctx", {})
    if isinstance(context.get("error"), LabError):
        return str(context["error"])
    kind = first["type"]
    allowed = ALLOWED.get(kind) or ALLOWED.get(kind.split("_")[0]) or f"is not accepted ({first['msg']})"
    got = "" if kind == "missing" else f"; got {str(first.get('input'))[:60]!r}"
    return f"{option} {allowed.format(**context)}{got}."
