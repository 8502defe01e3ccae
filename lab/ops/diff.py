"""Two runs side by side: where their recipes differ, their curves, and their newest samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from lab.errors import LabError
from lab.ops.jobs import curves, pace, progress, sampled, seconds_left
from lab.recipe import Recipe
from lab.store import Store, Stored
from lab.variants import Options

PLAIN = ("train", "attack")  # parts of a recipe that go without saying
WORDS = {"lr": "learning rate", "net": "network", "base": "start from", "snr_gamma": "min-SNR γ"}


class DiffOptions(Options):
    """Which two runs."""

    a: str = Field(default="", max_length=80, description="id of a run, as `runs` lists it")
    b: str = Field(default="", max_length=80, description="id of another run")


def diff(options: DiffOptions) -> dict[str, Any]:
    """Two runs side by side: where their recipes differ, their losses and success by step, their newest samples."""
    store = Store()
    a, b = store.get(options.a), store.get(options.b)
    if a.id == b.id:
        raise LabError("Choose two different runs to compare.")
    return {"a": _side(a), "b": _side(b), "differences": list(differences(_whole(a), _whole(b)))}


def _side(run: Stored) -> dict[str, Any]:
    samples = run.samples()
    return {
        "run": run.id,
        "title": run.about.title,
        "condition": run.state.condition,
        "error": run.state.error,
        **progress(run),
        "pace": pace(run.ticks()),
        "left": seconds_left(run.ticks()),
        "curves": curves(run),
        "newest": sampled(run, samples[-1]) if samples else None,
    }


def _whole(run: Stored) -> dict[str, Any]:
    """A recipe with what older ones leave out; as it lies there where it is no recipe of today."""
    try:
        return Recipe.of(**run.recipe).as_json()
    except LabError:
        return run.recipe


def differences(a: Any, b: Any, path: tuple[str, ...] = ()) -> Iterator[dict[str, str]]:
    """Where two recipes differ, in words; of two variants of one kind only the options that differ."""
    for key in dict.fromkeys([*a, *b]):
        one, other, here = a.get(key), b.get(key), (*path, key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict) and one.get("kind") == other.get("kind"):
            yield from differences(one, other, here)
        else:
            yield {"what": _named(here), "a": said(one, key), "b": said(other, key)}


def _named(path: tuple[str, ...]) -> str:
    parts = [part for part in path[:-1] if part not in PLAIN] + [path[-1]]
    return " ".join(WORDS.get(part, part.replace("_", " ")) for part in parts)


def said(value: Any, key: str = "") -> str:
    """A value of a recipe as people say it."""
    if isinstance(value, dict):
        kind = str(value.get("kind", "")).replace("_", " ")
        named = {k: v for k, v in value.items() if k != "kind" and v not in (None, "")}
        rest = ", ".join(f"{_named((k,))} {said(v, k)}" for k, v in named.items())
        return f"{kind} ({rest})" if kind and rest else kind or rest
    if key == "base":
        return value or "from scratch"
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
