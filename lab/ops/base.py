"""What every operation is: checked options in, ticks on the way where it is long, plain JSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.variants import Options


@dataclass(frozen=True)
class Operation:
    """A verb: checked options in, ticks on the way where it is long, plain JSON out."""

    name: str
    fn: Callable[[Any], Any]
    options: type[Options]
    public: bool = True  # offered to the API; what reads or writes paths of the server, or downloads, is not

    def __call__(self, **values: Any) -> Any:
        """Run with untrusted values; raises LabError with one sentence for a bad one."""
        return self.fn(self.options.of(**values))


def final(result: Any) -> Any:
    """The last thing a long operation yields, or the result of a short one."""
    if not isinstance(result, Iterator):
        return result
    last = None
    for last in result:  # noqa: B007  (its last value is the result)
        pass
    return last
