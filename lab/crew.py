"""The cores of a CPU: how many there are to use, and threads that compute with one each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor


@lru_cache(maxsize=1)
def cores() -> int:
    """How many cores share the images: torch's number of threads when it is first asked for."""
    return torch.get_num_threads()


@lru_cache(maxsize=1)
def crew(count: int) -> ThreadPoolExecutor:
    """Threads that compute with one core each."""
    return ThreadPoolExecutor(count, "core", initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def alone() -> Iterator[None]:
    """Small arithmetic by this thread alone: OpenMP's others would spin for milliseconds after it, on the crew's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(network: Callable[..., Tensor], whole: tuple[Tensor, ...], size: int, count: int) -> Tensor:
    """The network's answer, float32, by calls of at most `size` rows, `count` calls at once with one core each."""

    def call(part: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad():  # here and not around it: the mode belongs to a thread
            return network(*part)

    parts = list(zip(*(tensor.split(size) for tensor in whole), strict=True))
    run = crew(count).map if count > 1 and len(parts) > 1 else map
    answers = list(run(call, parts))
    with alone():
        return torch.cat([answer.float() for answer in answers])
