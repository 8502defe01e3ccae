"""Explore two models side by side, and what can be said before anything runs."""

from __future__ import annotations

import base64
import gzip
import io
import json
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import Field

from lab import explore as exploring
from lab import pictures, space, truth
from lab.borrowed import torch
from lab.compiling import make_apart
from lab.detect import noise_meter
from lab.errors import LabError
from lab.explore import ExploreSpec
from lab.models import Checkpoint, as_json, load
from lab.ops.base import final
from lab.pictures import uri
from lab.places import ASSETS
from lab.sampling import DDPM, SampleSpec
from lab.variants import Options


def explore(options: ExploreSpec) -> Iterator[dict[str, Any]]:
    """Two models side by side: clean and triggered noise from the same seeds, and two control questions."""
    yield from exploring.explore(options)


def explore_seconds(options: ExploreSpec) -> int:
    """Of a GPU: each model under each condition."""
    grids = (2 + 2 * options.controls) * len([name for name in (options.a, options.b) if name])
    return space.seconds_for(options.n, grids * options.sampler.steps)


class LookOptions(ExploreSpec):
    """What can be said before anything runs."""

    @property
    def image_steps(self) -> int:
        """Nothing runs."""
        return 0


def look(options: LookOptions) -> dict[str, Any]:
    """Before anything runs: trigger and target pictures, noise meter, and what this sampler does to each model."""
    slots = exploring.slots(options)
    shape = slots[0].checkpoint.shape
    spec = options.sample_spec(options.n)
    spec.sampler.build(slots[0].checkpoint.schedule, spec.clip)
    return {
        "shape": shape,
        "trigger": _picture(options.trigger.draw(shape)),
        "target": _picture(options.target.draw(shape, options.trigger)),
        "meter": noise_meter(options.trigger, shape, options.seed),
        "truth": {slot.letter: _truth(slot.checkpoint, spec) for slot in slots},
        "command": command(options),
        "recipe": options.model_dump(mode="json"),
    }


def _picture(image: torch.Tensor) -> str | None:
    return uri(pictures.png(pictures.to_image(image)))


def _truth(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    return f"{truth.sampler_truth(checkpoint, spec)} {truth.measured(checkpoint.card.scores, spec)}".strip()


def command(options: ExploreSpec) -> str:
    """The command line that repeats slot B's (or A's) triggered pictures."""
    words = ["python", "-m", "lab", "sample", "--checkpoint", options.b or options.a]
    for name in ("trigger", "target", "sampler", "clip", "seed", "n"):
        value = getattr(options, name)
        words += [f"--{name}", compact(value) if hasattr(value, "as_json") else str(value)]
    return shlex.join(words + (["--exact"] if options.exact else []))


def compact(variant: Any) -> str:
    """A variant as the shortest text that parses to it: its kind, or JSON with the options that differ."""
    options = variant.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"kind": variant.kind, **options}) if options else variant.kind


def pack(view: dict[str, Any], recipe: dict[str, Any]) -> bytes:
    """The pictures of a finished exploration with its recipe and numbers, as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for row in (row for column in view["columns"] for row in column["rows"] if row["image"]):
            file.writestr(f"{row['key']}.png", base64.b64decode(row["image"].split(",", 1)[1]))
        file.writestr("recipe.json", as_json(recipe))
        file.writestr("scores.json", as_json(view["rows"]))
    return buffer.getvalue()


def stored_exploration() -> dict[str, Any] | None:
    """The exploration that ships with the lab, with its recipe; None where it was not made yet."""
    path = ASSETS / "exploration.json.gz"
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else None


def device_line() -> str:
    """Where the lab computes and why so, for the network that the page opens with."""
    if space.is_zero():
        return "ZeroGPU: a GPU is lent to you for each request"
    from lab.engine import Denoiser

    try:
        return exploring.slots(ExploreSpec())[-1].denoiser.reason
    except LabError:  # its checkpoint is missing, which is said to the one who asks for it
        return Denoiser(torch.nn.Identity()).reason


def warm_up() -> None:
    """Make the default exploration's networks ready, so that the first one who presses Generate does not wait for it.

    On ZeroGPU that is only what a forked process finds in memory: libraries and weights cost no visitor's seconds then.
    """
    spec = ExploreSpec(sampler=DDPM(steps=1), n=1, controls=False)
    with suppress(LabError):  # what is missing is said to the one who asks for it
        if space.is_zero():
            exploring.cached(spec.a)
            exploring.cached(spec.b)
        else:
            final(explore(spec))


class CompileOptions(Options):
    """Whose network."""

    checkpoint: str = Field(
        default="mnist-clean", max_length=4096, description="name or folder of a checkpoint"
    )


def compile_network(options: CompileOptions) -> dict[str, Any]:
    """Compile a checkpoint's network for this machine now, and say whether it will be used; takes a minute or two."""
    from lab.engine import Denoiser

    denoiser = Denoiser(load(options.checkpoint).unet)
    if denoiser.blueprint is None:
        raise LabError(
            f"Networks are compiled for a CPU, in bfloat16 or float32; here they run on {denoiser.device}."
        )
    found = make_apart(denoiser.blueprint)
    assert found is not None  # nobody else needs the cores
    return found.model_dump(mode="json")
