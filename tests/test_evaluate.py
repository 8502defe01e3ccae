"""Measuring: batches, conditions, the rows that come out, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from lab import evaluate
from lab.data import Digits
from lab.diffusion import Schedule
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import (
    CONDITIONS,
    Row,
    Sampling,
    Trial,
    conditions,
    finite,
    judge,
    no_attack_level,
    reference_samples,
)
from lab.models import Card, Checkpoint, Net, fresh
from lab.progress import Tick
from lab.sampling import SampleSpec
from lab.triggers import Blank, Corner, Glasses, GreyBox, NoTrigger, Own, StopSign

IDLE = 0.05  # the one step still subtracts √(1 - ᾱ_0) = 0.01 of the network's answer
EIGHT_BITS = 1 / 255  # reference samples are stored as bytes


def spec(n: int = 5, steps: int = 2, **options) -> SampleSpec:
    return SampleSpec(sampler={"kind": "ddpm", "steps": steps}, n=n, **options)


def sampled(sampling: Sampling, trigger=None) -> torch.Tensor:
    list(sampling.steps(trigger or NoTrigger()))
    return torch.cat(sampling.images)


def test_batches_do_not_change_the_pictures(tiny, monkeypatch):
    whole = sampled(Sampling(tiny, spec(), Denoiser(tiny.unet, True)))
    monkeypatch.setattr(evaluate, "BATCH", 2)
    sampling = Sampling(tiny, spec(), Denoiser(tiny.unet, True))
    assert torch.equal(whole, sampled(sampling))
    assert [len(batch) for batch in sampling.images] == [2, 2, 1]


def test_pictures_are_in_range_and_sampling_again_starts_anew(tiny):
    sampling = Sampling(tiny, spec(), Denoiser(tiny.unet))
    first = sampled(sampling)
    assert first.shape == (5, 1, 32, 32)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, sampled(sampling))


def test_the_trigger_is_added_to_the_same_noise(tiny):
    """After one step of an almost idle schedule the pictures still differ by the trigger's shift."""
    config = {"num_train_timesteps": 1, "beta_start": 1e-4, "beta_end": 1e-4, "beta_schedule": "linear"}
    idle = Checkpoint(tiny.unet, Schedule.from_config(config), Card())
    one = spec(steps=1)
    plain, triggered = (
        next(Sampling(idle, one, Denoiser(idle.unet, True)).steps(t)) for t in (NoTrigger(), GreyBox())
    )
    difference = triggered.x_t - plain.x_t
    assert (difference - GreyBox().shift((1, 32, 32))).abs().max() < IDLE


def test_runaway_sampling_gets_a_sentence():
    with pytest.raises(LabError, match="ran away"):
        finite(torch.tensor([1.0, float("nan")]))
    assert torch.equal(finite(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize("trigger", [GreyBox(), StopSign(), Glasses(form="masked"), Own(name="x")])
def test_each_condition_adds_its_own(trigger):
    made = conditions(trigger)
    assert tuple(made) == CONDITIONS
    assert made["clean"] == NoTrigger() and made["blank"] == Blank() and made["triggered"] == trigger
    assert made["wrong"].kind != trigger.kind
    assert made["wrong"].form == trigger.form


def test_a_trial_gives_a_row_for_each_condition(tiny):
    digits = replace(tiny, card=Card(name="tiny", recipe={"dataset": {"kind": "digits"}}))
    trial = Trial(digits, GreyBox(), Corner(), spec(n=3), no_attack=0.1)
    results = list(trial.measure())
    rows = [result for result in results if isinstance(result, Row)]
    ticks = [result for result in results if isinstance(result, Tick)]
    assert [row.condition for row in rows] == list(CONDITIONS)
    assert [row.trigger["kind"] for row in rows] == ["none", "grey_box", "blank", "stop_sign"]
    assert len(ticks) == 4 * 2 and all(tick.step <= tick.total for tick in ticks)
    for row in rows:
        assert (row.checkpoint, row.scheduler, row.clip, row.n) == ("tiny", "DDPMScheduler", "none", 3)
        assert {"success", "MSE", "PSNR", "SSIM", "feature distance"} <= {score.name for score in row.scores}
        assert Row.of(**row.model_dump(mode="json")) == row
        assert math.isfinite(row.score("MSE"))
    assert rows[0].score("no such score") is None


def test_only_the_chosen_conditions_are_measured(tiny):
    rows = [r for r in Trial(tiny, GreyBox(), Corner(), spec(1)).measure(("blank",)) if isinstance(r, Row)]
    assert [row.condition for row in rows] == ["blank"]
    assert rows[0].score("success") is None, "without a no-attack level there is no success"


def test_no_attack_level_is_the_mean_error_to_the_target():
    samples, target = torch.full((4, 1, 8, 8), -1.0), torch.ones(1, 8, 8)
    assert no_attack_level(samples, target) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("recipe", "shape", "name", "n"),
    [
        ({"dataset": {"kind": "digits"}}, (1, 32, 32), "digit reader", 500),
        ({"dataset": {"kind": "mnist"}}, (1, 32, 32), "digit reader", 500),
        ({"dataset": {"kind": "emoji"}}, (3, 32, 32), "face reader", 1136),
    ],
)
def test_a_model_is_judged_by_what_it_was_trained_on(recipe, shape, name, n):
    reader, reference = judge(untrained(recipe, shape))
    assert reader.name == name
    assert len(reference) == n and reference.shape == shape


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ({}, (1, 32, 32)),
        ({"dataset": {"kind": "cifar10"}}, (3, 32, 32)),
        ({"dataset": {"kind": "digits"}}, (3, 32, 32)),
        ({"dataset": "digits"}, (1, 32, 32)),
        ({"dataset": {"kind": ["digits"]}}, (1, 32, 32)),
    ],
)
def test_nobody_judges_what_is_not_known(recipe, shape):
    assert judge(untrained(recipe, shape)) == (None, None)


def untrained(recipe: dict, shape: tuple[int, int, int]) -> Checkpoint:
    checkpoint = fresh(Net(channels=shape[0], side=shape[1], widths=(16,)), 0)
    return replace(checkpoint, card=Card(recipe=recipe))


def test_reference_samples_are_those_of_the_clean_model(tiny, lab_home):
    folder = lab_home / "checkpoints" / "clean-net"
    tiny.save(folder)
    bytes_ = Digits().load("held_out").pixels[:4]
    save_file({"images": bytes_.contiguous()}, folder / "samples.safetensors")
    for card in (Card(name="clean-net", backdoored=False), Card(name="x", backdoored=True, base="clean-net")):
        samples = reference_samples(card)
        assert samples.shape == (4, 1, 32, 32)
        assert ((samples + 1) * 127.5 - bytes_).abs().max() < EIGHT_BITS


def test_without_reference_samples_there_are_none(tiny, lab_home):
    assert reference_samples(Card(name="nobody")) is None
    assert reference_samples(Card(backdoored=True)) is None
    tiny.save(lab_home / "checkpoints" / "bare")
    assert reference_samples(Card(name="bare")) is None
    (lab_home / "checkpoints" / "bare" / "samples.safetensors").write_bytes(b"text")
    assert reference_samples(Card(name="bare")) is None


@pytest.fixture
def conditional() -> Checkpoint:
    unet = Net(side=8, widths=(16,), classes=4).build(0).eval()
    return Checkpoint(unet, Schedule.linear(), Card(name="conditional"))


def test_a_conditional_model_draws_every_class_in_turn_unless_told_otherwise(conditional):
    exact = Denoiser(conditional.unet, True)
    told = sampled(Sampling(conditional, spec(), exact, labels=torch.tensor([0, 1, 2])))
    assert torch.equal(told, sampled(Sampling(conditional, spec(), exact)))


def test_labels_go_round_and_follow_their_image(conditional, monkeypatch):
    labels, exact = torch.tensor([0, 1, 2]), Denoiser(conditional.unet, True)
    whole = sampled(Sampling(conditional, spec(guidance=1.0), exact, labels=labels))
    monkeypatch.setattr(evaluate, "BATCH", 2)
    assert torch.equal(whole, sampled(Sampling(conditional, spec(guidance=1.0), exact, labels=labels)))
    other = sampled(Sampling(conditional, spec(guidance=1.0), exact, labels=torch.tensor([0, 1, 1])))
    same = [torch.equal(a, b) for a, b in zip(whole, other, strict=True)]
    assert same == [True, True, False, True, True]


def test_conditions_that_go_through_together_are_what_they_are_alone(tiny):
    """Each image has its own noise, whatever stands beside it in the batch."""
    asked = conditions(GreyBox(size=8))
    sampling = Sampling(tiny, spec(n=4, steps=3), Denoiser(tiny.unet, exact=True))
    alone = []
    for condition in ("clean", "triggered"):
        list(sampling.steps(asked[condition]))
        alone.append(sampling.images[0])
    list(sampling.together([(asked["clean"], 4), (asked["triggered"], 2)]))
    (together,) = sampling.images
    assert torch.equal(together, torch.cat([alone[0], alone[1][:2]]))
