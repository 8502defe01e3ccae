"""bfloat16 is used where it was measured to be faster, and not where a processor merely has it."""

from __future__ import annotations

from itertools import cycle

import pytest
import torch

from lab import precision
from lab.engine import best_device

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
