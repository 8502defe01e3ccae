"""Training: batches from (seed, step), resuming bit for bit, losses apart, averaged weights, two processes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from together import together

from lab.attacks import BadDiffusion, BadNets, NoAttack
from lab.diffusion import Schedule
from lab.errors import LabError
from lab.images import Images, poisoned_indices
from lab.losses import loss_of, mse, multiscale, snr_weight
from lab.models import Card, Checkpoint, Net
from lab.precision import answer_in_float32
from lab.progress import Tick
from lab.teacher import Teacher
from lab.training import (
    NULL_DROP,
    Batches,
    TrainSpec,
    draw_t,
    learning_rate,
    training_loop,
)
from lab.triggers import Corner, GreyBox

PROCESSES = 1e-4  # the mean of two halves in float32 is not the mean of the whole, bit for bit
ROUNDING = 1e-12

ATTACK = BadDiffusion(trigger=GreyBox(size=4), target=Corner(), poison_rate=0.5)
SPEC = TrainSpec(
    steps=6, batch=4, lr=1e-3, warmup=2, ema=0.9, precision="fp32", threads=1, save_every=2, seed=3
)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def fresh(seed: int = 0, **net: Any) -> Checkpoint:
    return Checkpoint(Net(side=8, widths=(16,), **net).build(seed), Schedule.linear(), Card())


def trained(
    images: Images, spec: TrainSpec = SPEC, folder: Path | None = None, attack: Any = ATTACK
) -> tuple[dict[str, torch.Tensor], list[Tick]]:
    checkpoint = fresh()
    ticks = list(training_loop(checkpoint, images, attack, spec, folder))
    return checkpoint.unet.state_dict(), ticks


class Death(Exception):
    """A process that is killed saves nothing."""


def died_after(steps: int, images: Images, spec: TrainSpec, folder: Path) -> None:
    """Train and die."""
    loop = training_loop(fresh(), images, ATTACK, spec, folder)
    for _ in range(steps):
        next(loop)
    with pytest.raises(Death):
        loop.throw(Death())


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def threads() -> Iterator[None]:
    """A training sets the threads of its process; the tests after it want theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# Learning rate -------------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_ends_at_zero():
    spec = TrainSpec(steps=100, warmup=10, lr=0.01)
    rates = [learning_rate(step, spec) for step in range(101)]
    assert rates[:10] == pytest.approx([0.001 * (k + 1) for k in range(10)])
    assert rates[10] == pytest.approx(0.01) == max(rates)
    assert rates[55] == pytest.approx(0.005)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=ROUNDING)


def test_learning_rate_without_warm_up_starts_at_its_peak():
    assert learning_rate(0, TrainSpec(steps=10, warmup=0, lr=0.01)) == 0.01


def test_a_short_training_still_ends_at_zero():
    """Fewer steps than the warm-up asks for must not mean a rate that only grows."""
    spec = TrainSpec(steps=50, warmup=100, lr=0.01)
    rates = [learning_rate(step, spec) for step in range(51)]
    assert rates[50] == pytest.approx(0, abs=ROUNDING)
    assert all(math.isfinite(rate) and 0 <= rate <= 0.01 for rate in rates)


# Batches -------------------------------------------------------------------------------------------------------------


def batches(images: Images, **options: Any) -> Batches:
    poisoned = torch.zeros(len(images), dtype=torch.bool)
    poisoned[::2] = True
    return Batches(replace(images, is_poisoned=poisoned), SPEC.model_copy(update=options), 1000)


def test_any_batch_is_the_same_without_the_ones_before(specks):
    walked = batches(specks)
    for step in range(20):
        batch, t, noise = walked.at(step)
    alone, t_alone, noise_alone = batches(specks).at(19)
    assert torch.equal(batch.x_0, alone.x_0) and torch.equal(batch.is_poisoned, alone.is_poisoned)
    assert torch.equal(t, t_alone) and torch.equal(noise, noise_alone)


def test_an_epoch_sees_every_image_once_and_epochs_differ(specks):
    b = batches(specks)  # 20 images, 4 a step
    epochs = [np.concatenate([b._rows(step) for step in range(5 * e, 5 * e + 5)]) for e in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_may_be_larger_than_the_set(specks):
    batch, t, noise = batches(specks, batch=50).at(1)
    assert len(batch.x_0) == len(t) == len(noise) == 50


def test_marks_travel_with_their_images(specks):
    b = batches(specks)
    batch, _, _ = b.at(3)
    assert batch.is_poisoned.tolist() == [k % 2 == 0 for k in b._rows(3)]
    assert torch.equal(batch.x_0, specks.values(torch.from_numpy(b._rows(3))))


def test_about_half_are_mirrored_where_mirror_images_count(specks):
    b = batches(Images(specks.pixels, flip=True), batch=200)
    batch, _, _ = b.at(0)
    originals = specks.values(torch.from_numpy(b._rows(0)))
    mirrored = (batch.x_0 == originals.flip(-1)).flatten(1).all(1)
    kept = (batch.x_0 == originals).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 60 < int(mirrored.sum()) < 140


def test_t_covers_the_schedule_evenly(specks):
    t = torch.cat([batches(specks, batch=500).at(step)[1] for step in range(4)])
    assert 0 <= int(t.min()) < 10 and 990 <= int(t.max()) < 1000
    assert abs(float(t.double().mean()) - 499.5) < 4 * 1000 / math.sqrt(12 * len(t))


# The loop ------------------------------------------------------------------------------------------------------------


def test_training_yields_every_step_with_losses_apart(specks):
    _, ticks = trained(specks)
    assert [tick.step for tick in ticks] == [1, 2, 3, 4, 5, 6]
    assert all(tick.total == 6 for tick in ticks)
    for tick in ticks:
        assert {"loss"} < set(tick.values) <= {"loss", "loss_clean", "loss_poisoned"}
        assert all(math.isfinite(value) for value in tick.values.values())


def test_losses_are_read_only_when_somebody_looks(specks):
    tick = next(training_loop(fresh(), specks, ATTACK, SPEC))
    assert "_values" not in vars(tick.values)
    assert tick.values["loss"] > 0
    assert "_values" in vars(tick.values)


def test_pictures_stay_bytes_where_the_network_is(specks):
    b = batches(specks)
    assert b.images.pixels.dtype == torch.uint8
    assert Batches(specks, SPEC, 1000, device="meta").images.pixels.device.type == "meta"


def test_the_loss_is_the_mean_over_clean_and_poisoned_images(specks):
    b = batches(specks)
    _, ticks = trained(specks)
    poisoned = torch.zeros(20, dtype=torch.bool)
    poisoned[poisoned_indices(20, 0.5, SPEC.seed)] = True
    for tick in ticks:
        share = float(poisoned[torch.from_numpy(b._rows(tick.step - 1))].double().mean())
        parts = (
            tick.values.get("loss_clean", 0.0) * (1 - share) + tick.values.get("loss_poisoned", 0.0) * share
        )
        assert tick.values["loss"] == pytest.approx(parts, rel=1e-5)


def test_honest_training_has_no_poisoned_loss(specks):
    _, ticks = trained(specks, attack=NoAttack())
    assert all(set(tick.values) == {"loss", "loss_clean"} for tick in ticks)


def test_the_first_loss_is_the_formula(specks):
    """Mean squared error of the untouched network on the first corrupted batch."""
    _, ticks = trained(specks)
    checkpoint = fresh()
    batch, t, noise = Batches(ATTACK.poison(specks, SPEC.seed), SPEC, 1000).at(0)
    x_t, expected = ATTACK.corrupt(checkpoint.schedule, batch, t, noise)
    with torch.no_grad():
        loss = (checkpoint.unet(x_t, t).sample - expected).square().mean()
    assert ticks[0].values["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_training_learns(specks):
    spec = SPEC.model_copy(update={"steps": 60, "batch": 8, "lr": 5e-3})
    _, ticks = trained(specks, spec, attack=NoAttack())
    losses = [tick.values["loss"] for tick in ticks]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_kept_network_is_ready_to_use(specks):
    checkpoint = fresh()
    list(training_loop(checkpoint, specks, NoAttack(), SPEC))
    assert not checkpoint.unet.training
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in checkpoint.unet.parameters())
    assert checkpoint.unet(torch.zeros(1, 1, 8, 8), 3).sample.dtype == torch.float32


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_step_knows_the_weights_that_would_be_kept(specks, ema):
    checkpoint, spec = fresh(), SPEC.model_copy(update={"ema": ema})
    found = [step.kept() for step in training_loop(checkpoint, specks, ATTACK, spec)]
    assert equal(found[-1], checkpoint.unet.state_dict())
    assert not equal(found[0], found[-1])


def test_a_base_has_nothing_to_teach_itself(specks):
    """Where it teaches every image it is right from the start, and the losses are still those of the noise."""
    spec = SPEC.model_copy(update={"distill": 2.0})
    same, ticks = trained(specks, spec, attack=NoAttack())
    assert all(
        torch.allclose(a, b, atol=1e-7)
        for a, b in zip(fresh().unet.state_dict().values(), same.values(), strict=True)
    )
    _, by_noise = trained(specks, attack=NoAttack())
    assert ticks[0].values == by_noise[0].values


@pytest.mark.parametrize("bf16", [False, True])
def test_a_teacher_says_bit_for_bit_what_the_network_says_in_the_trainings_arithmetic(bf16):
    unet, x, t = fresh().unet, torch.randn(6, 1, 8, 8), torch.arange(6) * 150
    unet = answer_in_float32(unet) if bf16 else unet
    said = Teacher(unet, torch.device("cpu"), bf16, cores=2)(x, t)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        shares = [unet(x[rows], t[rows]).sample.float() for rows in (slice(3), slice(3, 6))]
    assert torch.equal(said, torch.cat(shares))


def test_the_backdoor_is_not_taught_by_the_base(specks):
    """Where every image is poisoned nothing is left to teach: bit for bit the training without a teacher."""
    attack = ATTACK.model_copy(update={"poison_rate": 1.0})
    plain, _ = trained(specks, attack=attack)
    taught, _ = trained(specks, SPEC.model_copy(update={"distill": 2.0}), attack=attack)
    assert equal(plain, taught)


def test_averaged_weights_lag_behind(specks):
    """ema 0 keeps the last weights, ema near 1 an average: they must not be the same."""
    last, _ = trained(specks, SPEC.model_copy(update={"ema": 0.0}))
    averaged, _ = trained(specks)
    assert not equal(last, averaged)


@pytest.mark.parametrize("option", [{"ema": 0.0}, {"ema": 0.9}, {"distill": 2.0}])
@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(specks, tmp_path, option, steps):
    spec = SPEC.model_copy(update=option)
    whole, ticks = trained(specks, spec)
    died_after(steps, specks, spec, tmp_path)
    resumed, rest = trained(specks, spec, tmp_path)
    assert equal(whole, resumed)
    first = steps // 2 * 2
    assert [tick.step for tick in rest] == list(range(first + 1, 7))
    assert [tick.values for tick in rest] == [tick.values for tick in ticks[first:]]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_loop_that_is_closed_goes_on_where_it_was(specks, tmp_path, steps):
    whole, ticks = trained(specks)
    loop = training_loop(fresh(), specks, ATTACK, SPEC, tmp_path)
    for _ in range(steps):
        next(loop)
    loop.close()
    resumed, rest = trained(specks, SPEC, tmp_path)
    assert equal(whole, resumed)
    assert [tick.values for tick in rest] == [tick.values for tick in ticks[steps:]]


def test_a_finished_run_resumes_to_the_same_weights(specks, tmp_path):
    whole, _ = trained(specks, SPEC, tmp_path)
    again, ticks = trained(specks, SPEC, tmp_path)
    assert equal(whole, again)
    assert ticks == []


def test_only_the_newest_state_stays_and_half_written_ones_do_not_count(specks, tmp_path):
    (tmp_path / ".state-99").mkdir()
    died_after(5, specks, SPEC, tmp_path)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000004"]
    assert json.loads((tmp_path / "state-00000004" / "step.json").read_text()) == {"step": 4}


def test_the_seed_decides_the_weights(specks):
    a, _ = trained(specks)
    b, _ = trained(specks)
    c, _ = trained(specks, SPEC.model_copy(update={"seed": 4}))
    assert equal(a, b)
    assert not equal(a, c)


def test_images_of_another_shape_are_refused(specks):
    colour = Images(specks.pixels.expand(-1, 3, -1, -1))
    with pytest.raises(LabError, match=r"\(3, 8, 8\), the network takes \(1, 8, 8\)"):
        next(training_loop(fresh(), colour, NoAttack(), SPEC))


def test_a_tenth_of_the_labels_is_hidden_and_the_rest_is_told(specks):
    labelled = NoAttack().poison(Images(specks.pixels, torch.arange(20) % 2), 0)
    told = Batches(labelled, SPEC, 1000, classes=3)
    plain = Batches(labelled, SPEC, 1000)
    labels, hidden = [], 0
    for step in range(100):
        batch, t, noise = told.at(step)
        alone, same_t, same_noise = plain.at(step)
        assert alone.labels is None and torch.equal(t, same_t) and torch.equal(noise, same_noise)
        true = labelled.labels[torch.from_numpy(told._rows(step))]
        assert torch.all((batch.labels == true) | (batch.labels == 2))
        hidden, labels = hidden + int((batch.labels == 2).sum()), [*labels, batch.labels]
    n = len(torch.cat(labels))
    assert abs(hidden / n - NULL_DROP) < 4 * (NULL_DROP * (1 - NULL_DROP) / n) ** 0.5


def test_a_conditional_network_learns_its_labels(specks):
    """After training on black and white images alike in number, the label decides which one is predicted."""
    pixels = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    pixels[::2] = 255
    images = Images(pixels, torch.arange(20) % 2)
    checkpoint = fresh(classes=3)
    list(training_loop(checkpoint, images, NoAttack(), SPEC.model_copy(update={"steps": 150, "lr": 3e-3})))
    noise = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.full((16,), 990)
    with torch.no_grad():
        white, black = (checkpoint.unet(noise, t, torch.full((16,), label)).sample for label in (0, 1))
    assert float((black - white).mean()) > 0  # less light there, so more of x_t is noise above it


def test_labels_that_do_not_fit_are_refused(specks):
    with pytest.raises(LabError, match="no labels"):
        next(training_loop(fresh(classes=3), specks, NoAttack(), SPEC))
    with pytest.raises(LabError, match="4 classes, the network 2"):
        next(training_loop(fresh(classes=3), Images(specks.pixels, torch.arange(20) % 4), NoAttack(), SPEC))
    with pytest.raises(LabError, match="draws classes on request"):
        next(training_loop(fresh(), Images(specks.pixels, torch.arange(20) % 4), BadNets(), SPEC))


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_evenly_is_refused(specks, tmp_path):
    together(refusal_of_a_process, specks.pixels, str(tmp_path / "refusal"))
    assert "2 processes" in (tmp_path / "refusal").read_text()


def refusal_of_a_process(pixels: torch.Tensor, path: str) -> None:
    try:
        trained(Images(pixels), SPEC.model_copy(update={"batch": 3}))
    except LabError as error:
        Path(path).write_text(str(error))


def test_two_precisions_in_one_process(specks):
    """Accelerate remembers the first precision of a process; a second training may ask for another."""
    trained(specks, SPEC.model_copy(update={"precision": "auto"}))
    trained(specks, SPEC)


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"batch": 0}, {"lr": 0}, {"lr": float("nan")}, {"ema": 1}, {"precision": "fp8"}],
    ids=str,
)
def test_impossible_specs_get_a_sentence(options):
    with pytest.raises(LabError, match=f"^{next(iter(options))} "):
        TrainSpec.of(**options)


# Two processes -------------------------------------------------------------------------------------------------------


def losses_of_a_process(pixels: torch.Tensor, path: str) -> None:
    """What each of two processes does; the main one writes its losses and weights down."""
    from accelerate import PartialState

    torch.set_num_threads(1)
    weights, ticks = trained(Images(pixels), SPEC)
    if PartialState().is_main_process:
        values = [dict(tick.values) for tick in ticks]
        torch.save({"values": values, "weights": weights, "processes": PartialState().num_processes}, path)


@pytest.mark.parametrize("cores", [2, 3, 8])
def test_cores_that_share_a_batch_train_like_one(specks, threads, cores):
    whole, ticks = trained(specks)
    shared, other = trained(specks, SPEC.model_copy(update={"threads": cores}))
    for one, another in zip(ticks, other, strict=True):
        assert one.values == pytest.approx(another.values, abs=PROCESSES)
    for name, tensor in whole.items():
        assert (tensor - shared[name]).abs().max() < PROCESSES


def test_cores_share_a_batch_bit_for_bit_again(specks, threads):
    spec = SPEC.model_copy(update={"threads": 2})
    assert equal(trained(specks, spec)[0], trained(specks, spec)[0])


@pytest.mark.slow
def test_two_processes_train_like_one(specks, tmp_path):
    whole, ticks = trained(specks)
    together(losses_of_a_process, specks.pixels, str(tmp_path / "two.pt"))
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert two["processes"] == 2
    for one, other in zip(ticks, two["values"], strict=True):
        assert one.values == pytest.approx(other, abs=PROCESSES)
    for name, tensor in whole.items():
        assert (tensor - two["weights"][name]).abs().max() < PROCESSES


@pytest.mark.parametrize(("t_sampling", "mean"), [("uniform", 1 / 2), ("noisy", (1 / 2 + 2 / 3) / 2)])
def test_t_covers_the_schedule_with_the_density_it_says(t_sampling, mean):
    t = draw_t(40_000, 1000, t_sampling, torch.Generator().manual_seed(0)).double()
    assert t.min() == 0 and t.max() == 999
    assert t.mean() / 1000 == pytest.approx(mean, abs=0.005)  # four standard errors of 40,000 draws


# Losses ---------------------------------------------------------------------------------------------------------------


def test_multiscale_counts_an_error_at_every_resolution_that_sees_it():
    mean = torch.full((1, 1, 8, 8), 0.5)
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 8, 8)
    errors = multiscale(torch.cat([mean, stripes, 0 * mean]))
    assert errors.tolist() == pytest.approx([(1 + 2 + 4 + 8) * 0.25, 1.0, 0.0])


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 3, 8, 12), (1, 1, 7, 7), (1, 1, 8, 1)], ids=str)
def test_multiscale_is_at_least_the_mean_square(shape):
    error = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert (multiscale(error) >= mse(error)).all()


@pytest.mark.parametrize(
    ("loss", "wanted"), [("mse", 1.0), ("multiscale", 15.0), ("multiscale_poisoned", (15 + 1) / 2)]
)
def test_the_loss_looks_at_all_or_at_the_poisoned_images(loss, wanted):
    losses = loss_of(torch.ones(2, 1, 8, 8), torch.tensor([True, False]), loss)
    assert losses.mean().item() == pytest.approx(wanted)


def test_min_snr_lets_every_x_t_count_as_if_it_had_at_most_that_signal(schedule):
    t = torch.arange(1000)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = snr_weight(schedule, t, 5.0)
    assert torch.allclose((weights * snr).float(), snr.clamp(max=5).float())
    assert weights.max() == 1 and weights[0] < 0.001
    assert snr_weight(schedule, t, 0.0).tolist() == [1.0] * 1000


@pytest.mark.parametrize(
    "change", [{"loss": "multiscale"}, {"loss": "multiscale_poisoned"}, {"snr_gamma": 1.0}], ids=str
)
def test_the_loss_decides_the_weights_and_is_reported_as_mean_square(specks, change):
    weights, ticks = trained(specks)
    others, same = trained(specks, SPEC.model_copy(update=change))
    assert not equal(weights, others)
    assert same[0].values == ticks[0].values
