"""bfloat16 is used where it was measured to be faster, and not in the layers that the answer comes from."""

from __future__ import annotations

from copy import deepcopy
from itertools import cycle
from typing import Any

import pytest
import torch

from lab import engine, precision, training
from lab.diffusion import Schedule
from lab.engine import Denoiser, best_device
from lab.models import Card, Checkpoint, Net, load

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch):
    """A processor that has bfloat16, and seconds that its convolutions are said to take, in turns bfloat16's and float32's."""

    def say(*seconds: float) -> bool:
        clock = cycle(seconds)
        monkeypatch.setattr(precision, "_has_bf16", lambda: True)
        monkeypatch.setattr(precision, "_seconds", lambda convolve: (convolve(), next(clock))[1])
        precision._cpu_is_faster.cache_clear()
        return precision.is_faster_in_bf16(CPU)

    yield say
    precision._cpu_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("bf16", "fp32", "used"), [(1, 6, True), (1, 1.9, True), (1, 1.1, False), (2, 1, False)]
)
def test_bfloat16_is_used_where_it_is_faster(measured, bf16, fp32, used):
    assert measured(bf16, fp32) is used


def test_other_work_beside_the_measurement_does_not_decide(measured):
    assert measured(50, 6, 1, 60, 9, 6)
    assert not measured(2, 50, 2, 1, 60, 1)


def test_a_processor_without_bfloat16_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "_has_bf16", lambda: False)
    monkeypatch.setattr(precision, "_cpu_is_faster", lambda: pytest.fail("measured"))
    assert not precision.is_faster_in_bf16(CPU)


def test_the_measurement_is_made_once_and_leaves_threads_as_they_were(measured, monkeypatch):
    before = torch.get_num_threads()
    assert measured(1, 6)
    monkeypatch.setattr(precision, "_seconds", lambda convolve: pytest.fail("measured again"))
    assert precision.is_faster_in_bf16(CPU)
    assert torch.get_num_threads() == before


def test_two_convolutions_that_are_timed_give_the_same_format_as_they_are_named_for():
    for dtype in (torch.bfloat16, torch.float32):
        answer = precision._convolution(dtype)()
        assert answer.dtype == dtype and answer.is_contiguous(memory_format=torch.channels_last)


def test_this_device_has_an_answer():
    assert isinstance(precision.is_faster_in_bf16(torch.device(best_device())), bool)


# The answer -------------------------------------------------------------------------------------------------------


def moved(rounded: Any, unet: Any) -> float:
    """By how much one network's noise differs from another's, the same in every pixel: of its channels the most."""
    draw = torch.Generator().manual_seed(0)
    x, t = torch.randn(8, 3, 32, 32, generator=draw).bfloat16(), torch.full((8,), 900)
    with torch.no_grad():
        difference = rounded(x, t).sample.float() - unet(x.float(), t).sample
    return float(difference.mean((0, 2, 3)).abs().max())


def test_bfloat16_does_not_colour_the_pictures(monkeypatch):
    """Faces whose other weights are numbers of bfloat16 already, so that all that is left to round is the answer."""
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: True)
    faces = load("emoji-clean").unet
    for name, weight in faces.state_dict().items():
        if not name.startswith(precision.HEAD):
            weight.copy_(weight.bfloat16())
    ready = Denoiser(faces, device="cpu").copy_of(faces)
    assert ready.conv_in.weight.dtype == torch.bfloat16
    assert moved(ready, faces) < 5e-4 < 2e-3 < moved(deepcopy(faces).bfloat16(), faces)


def test_what_rounding_adds_everywhere_is_taken_back():
    faces = load("emoji-clean").unet
    ready = deepcopy(faces)
    precision.in_bfloat16(ready)
    assert moved(ready, faces) < 5e-4
    ready.conv_out.bias.copy_(faces.conv_out.bias)
    assert moved(ready, faces) > 1e-3


def test_classes_and_other_networks_are_rounded_too():
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 700]), torch.tensor([0, 3])
    unet = Net(side=8, widths=(8, 16), classes=4).build(0).eval().requires_grad_(False)
    ready = deepcopy(unet)
    off = precision.in_bfloat16(ready)
    said, wanted = ready(x.bfloat16(), t, labels).sample, unet(x, t, labels).sample
    assert said.dtype == torch.float32 and (said - wanted).abs().max() < 0.05
    assert off and 0 < off < precision.TOLERANCE
    line = torch.nn.Linear(2, 2)
    assert precision.in_bfloat16(line) is None and line.weight.dtype == torch.bfloat16


def test_a_network_that_bfloat16_changes_stays_in_float32_and_says_so(monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: True)
    unet = Net(side=8, widths=(8, 16)).build(0).eval()
    assert "bfloat16, which this device has (within " in Denoiser(unet, device="cpu").reason
    monkeypatch.setattr(engine, "TOLERANCE", 1e-6)
    left, x, t = Denoiser(unet, device="cpu"), torch.randn(2, 1, 8, 8), torch.tensor([3, 700])
    assert "float32, since this network in bfloat16 is " in left.reason
    assert left.dtype == torch.float32
    assert (left(x, t) - Denoiser(unet, True, "cpu")(x, t)).abs().max() < 1e-5


def test_a_network_whose_answer_is_no_number_is_not_rounded(monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: True)
    unet = Net(side=8, widths=(8, 16)).build(0).eval().requires_grad_(False)
    unet.conv_in.weight.fill_(float("nan"))
    assert Denoiser(unet, device="cpu").dtype == torch.float32


def test_a_training_in_bfloat16_answers_in_float32(monkeypatch):
    """And learns from that: what lies between is in bfloat16, and every layer has its gradient."""
    monkeypatch.setattr(training, "is_faster_in_bf16", lambda device: True)
    unet, seen = Net(side=8, widths=(8, 16)).build(0), {}
    checkpoint = Checkpoint(unet, Schedule.linear(), Card())
    trainer = training.prepare(checkpoint, training.TrainSpec(steps=1, batch=2))
    for name in ("conv_in", "conv_norm_out", "conv_out"):
        layer = trainer.accelerator.unwrap_model(trainer.unet).get_submodule(name)
        layer.register_forward_hook(lambda _, given, answer, name=name: seen.update({name: answer.dtype}))
    with trainer.accelerator.autocast():
        trainer.unet(torch.randn(2, 1, 8, 8), torch.tensor([1, 900])).sample.sum().backward()
    assert seen == {"conv_in": torch.bfloat16, "conv_norm_out": torch.float32, "conv_out": torch.float32}
    assert all(p.grad is not None for p in unet.parameters())


def test_a_copy_answers_by_its_own_weights():
    unet = precision.answer_in_float32(Net(side=8, widths=(8, 16)).build(0).eval())
    twin, x, t = deepcopy(unet), torch.randn(1, 1, 8, 8), torch.tensor([5])
    with torch.no_grad():
        twin.conv_out.weight.zero_(), twin.conv_out.bias.fill_(3.0)
        assert (twin(x, t).sample == 3).all() and not (unet(x, t).sample == 3).any()
