"""Cores of a CPU: who computes with how many."""

from __future__ import annotations

import pytest
import torch

from lab.crew import alone, spread
from lab.diffusion import Schedule
from lab.sampling import DDPM, SampleSpec, Start, p_sample_loop


@pytest.fixture
def threads():
    """Two threads in this test, whatever was before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_one_thread_works_alone_and_the_others_are_there_again_after_an_error(threads):
    with pytest.raises(ZeroDivisionError), alone():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == threads


def test_between_two_calls_of_the_network_no_thread_is_left_spinning(threads, monkeypatch):
    seen, add = [], torch.Tensor.__add__
    start = Start.of((1, 4, 4), seed=0, n=2)

    def network(x, t):
        seen.append(torch.get_num_threads())
        return x

    def watched(left, right):
        seen.append(torch.get_num_threads())
        return add(left, right)

    steps = p_sample_loop(
        network, Schedule.linear(), SampleSpec(sampler=DDPM(steps=1), n=2), start, start.noise
    )
    monkeypatch.setattr(torch.Tensor, "__add__", watched)
    next(steps)
    assert seen[0] == threads
    assert set(seen[1:]) == {1}


def test_answers_come_in_the_order_of_the_rows(threads):
    x = torch.arange(10.0)[:, None]
    assert torch.equal(spread(lambda part: part * 2, (x,), size=3, count=threads), x * 2)
