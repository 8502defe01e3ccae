"""What is said before anything is sampled: how well a trigger is seen, its command, and what to expect of a model."""

from __future__ import annotations

import json
import math
import shlex
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest
import torch
from asking import (
    BACKDOORED,
    CLEAN,
    DIGITS,
    decoded,
)

from lab import truth
from lab.cli import nested, parser
from lab.models import Card, Checkpoint
from lab.ops import OPERATIONS, ExploreSpec
from lab.sampling import SampleSpec
from lab.triggers import GreyBox
from lab.variants import Options

# look --------------------------------------------------------------------------------------------------------------


def meter(**values: Any) -> dict[str, Any]:
    return OPERATIONS["look"](**{**DIGITS, **values})["meter"]


def test_the_meter_knows_the_grey_box():
    found = meter(trigger={"kind": "grey_box", "size": 14})
    outside = 32 * 32 - 14 * 14  # the box itself is 0.0: only its -1 background moves the noise
    assert found["norm"] == pytest.approx(math.sqrt(outside)) == pytest.approx(math.sqrt(828))
    assert (found["changed"], found["size"]) == (outside, 1024)
    assert found["errors"] == pytest.approx(-outside / 1024 * 32)


@pytest.mark.parametrize("size", [1, 2, 14])
def test_the_meter_of_a_masked_box(size):
    found = meter(trigger={"kind": "grey_box", "size": size, "form": "masked"})
    assert found["norm"] == pytest.approx(size)
    assert found["auroc"] == pytest.approx(NormalDist().cdf(size / math.sqrt(2)))
    assert found["accuracy"] == pytest.approx(NormalDist().cdf(size / 2))


def test_the_best_detector_is_as_good_as_the_meter_says():
    g = GreyBox(size=1, form="masked").shift((1, 32, 32)).flatten()
    noise = torch.randn(4000, 1024, generator=torch.Generator().manual_seed(0))
    plain, moved = noise[:2000] @ g, (noise[2000:] + g) @ g
    auroc = float((moved[:, None] > plain[None]).float().mean())
    assert auroc == pytest.approx(
        meter(trigger={"kind": "grey_box", "size": 1, "form": "masked"})["auroc"], abs=0.02
    )


def test_plain_noise_cannot_be_detected():
    found = meter(trigger="none")
    assert (found["norm"], found["changed"], found["auroc"], found["accuracy"]) == (0, 0, 0.5, 0.5)
    assert found["noise"] == found["triggered"]


def test_the_histogram_holds_all_the_noise():
    found = meter()
    assert len(found["bins"]) == len(found["noise"]) + 1 == len(found["triggered"]) + 1
    assert sum(found["noise"]) == pytest.approx(1, abs=1e-3)
    centres = [(low + high) / 2 for low, high in pairwise(found["bins"])]
    mean = sum(share * centre for share, centre in zip(found["triggered"], centres, strict=True))
    assert mean == pytest.approx(-828 / 1024, abs=0.03)


def test_look_shows_trigger_and_target_pixel_for_pixel():
    look = OPERATIONS["look"](**DIGITS, target="corner")
    box, corner = decoded(look["trigger"]), decoded(look["target"])
    assert look["shape"] == (1, 32, 32)
    assert box.size == corner.size == (32, 32)
    assert [box.getpixel(at) for at in ((16, 16), (29, 29), (30, 30), (0, 0))] == [128, 128, 0, 0]
    assert corner.getpixel((9, 9)) == 128 and corner.getpixel((10, 10)) == 76  # 0.0, and -0.4


def test_the_recipe_of_a_look_gives_the_same_look():
    settings = {"trigger": "stop_sign", "target": "shoe", "clip": "x0", "seed": 7, "n": 4}
    look = OPERATIONS["look"](**settings)
    assert OPERATIONS["look"](**json.loads(json.dumps(look["recipe"]))) == look


def parsed(command: str) -> Options:
    """The options that a command line stands for."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "lab"]
    options, dotted = parser().parse_known_args(words[3:])
    given = {k: v for k, v in vars(options).items() if k not in ("operation", "json")}
    return OPERATIONS[options.operation].options.of(**nested(given, dotted))


def test_the_command_of_a_look_says_the_same():
    settings = {
        "a": CLEAN,
        "b": BACKDOORED,
        "trigger": {"kind": "grey_box", "size": 8, "form": "masked"},
        "target": "corner",
        "sampler": {"kind": "ddim", "steps": 20, "eta": 0.5},
        "clip": "xt",
        "seed": 7,
        "n": 5,
        "exact": True,
    }
    asked, options = ExploreSpec.of(**settings), parsed(OPERATIONS["look"](**settings)["command"])
    assert options.checkpoint == BACKDOORED
    for name in settings.keys() - {"a", "b"}:
        assert getattr(options, name) == getattr(asked, name)


# What the truth line says -------------------------------------------------------------------------------------------


def truths(**values: Any) -> dict[str, str]:
    return OPERATIONS["look"](**values)["truth"]


def test_an_sde_backdoor_works_with_ancestral_sampling():
    assert "sde backdoor works here" in truths()["B"]
    assert "250 of 1000 steps" in truths()["B"]
    assert "all 1000 steps" in truths(sampler={"kind": "ddpm", "steps": 1000})["B"]


def test_an_sde_backdoor_is_expected_to_fail_under_ddim():
    line = truths(sampler="ddim")["B"]
    assert "deterministic" in line and "fail" in line
    assert "works here" in truths(sampler={"kind": "ddim", "eta": 1})["B"]


def test_clip_x0_says_why_it_ends_the_attack():
    assert "predicted x_0 far outside [-1, 1]" in truths(clip="x0")["B"]
    assert "clamps every x_t" in truths(clip="xt")["B"]


@pytest.mark.parametrize("clip", ["none", "x0", "xt"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_clean_model_has_nothing_to_wake(sampler, clip):
    assert "nothing to wake" in truths(sampler=sampler, clip=clip)["A"]


def test_the_files_own_clip_setting_is_named_where_it_differs():
    assert "own setting is clip_sample on; here it is off" in truths(clip="none")["B"]
    assert "own setting" not in truths(clip="x0")["B"]


def line_of(tiny: Checkpoint, card: Card, **spec: Any) -> str:
    return truth.sampler_truth(Checkpoint(tiny.unet, tiny.schedule, card), SampleSpec.of(**spec))


def test_an_ode_backdoor_is_the_other_way_round(tiny):
    card = Card(backdoored=True, recipe={"attack": {"kind": "baddiffusion", "solver": "ode"}})
    assert "ode backdoor works here" in line_of(tiny, card, sampler="ddim")
    assert "under this random one expect it to fail" in line_of(tiny, card, sampler="ddpm")
    assert "hardly matters" in line_of(tiny, card, sampler="ddim", clip="x0")


def test_nothing_is_claimed_of_an_unknown_model(tiny):
    assert "nothing is known" in line_of(tiny, Card())


def test_what_was_measured_is_said_with_its_n():
    scores = [{"name": "success", "value": 0.75, "n": 256}]
    row = {
        "sampler": {"kind": "ddpm", "steps": 250},
        "clip": "none",
        "condition": "triggered",
        "scores": scores,
    }
    assert truth.measured([row], SampleSpec()).endswith(
        "became the target from triggered noise 75% (n = 256)."
    )
    assert truth.measured([row], SampleSpec(clip="x0")) == ""


def test_of_several_measurements_the_largest_of_the_first_seed_is_said():
    def row(n: int, seed: int, value: float, condition: str = "clean") -> dict[str, Any]:
        scores = [{"name": "success", "value": value, "n": n}]
        sampler = {"kind": "ddpm", "steps": 250}
        return {"sampler": sampler, "clip": "none", "condition": condition, "seed": seed, "scores": scores}

    rows = [row(64, 0, 0.5), row(256, 1, 0.2), row(256, 0, 0.1), row(256, 2, 0.3), row(64, 0, 1, "triggered")]
    assert truth.measured(rows, SampleSpec()).endswith(
        "from triggered noise 100% (n = 64), from clean noise 10% (n = 256)."
    )
