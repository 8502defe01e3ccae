"""What every operation is: checked options in, ticks on the way where it is long, plain JSON out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lab import space
from lab.errors import LabError
from lab.heap import at_work, give_back
from lab.people import admit
from lab.variants import Options, one_sentence, unknown


@dataclass(frozen=True)
class Operation:
    """A verb: checked options in, ticks on the way where it is long, plain JSON out."""

    name: str
    fn: Callable[[Any], Any]
    options: type[Options]
    public: bool = True  # offered to the API; what is made of paths of the server is not
    closed: tuple[str, ...] = ()  # options that name paths or places of the server: for its command line only
    trains: bool = False  # takes the machine for longer than a request
    heavy: bool = False  # samples or trains on the device: one at a time
    gpu: Callable[[Any], int] | None = None  # seconds that it wants a GPU for, where one has to be borrowed

    def __call__(self, **values: Any) -> Any:
        """Run with untrusted values; raises LabError with one sentence for a bad one, or for too much of it."""
        options = self.options.of(**values)
        admit(options.image_steps, self.trains)
        seconds = self.gpu(options) if self.gpu and space.is_lending() else 0
        if not seconds:
            return self._told(options)
        results = space.borrowed(self.fn, options, seconds)
        return results if inspect.isgeneratorfunction(self.fn) else final(results)

    def _told(self, options: Any) -> Any:
        with self._tidied():
            result = self.fn(options)
        return self._telling(result) if isinstance(result, Iterator) else result

    def _telling(self, news: Iterator[Any]) -> Iterator[Any]:
        with self._tidied():
            yield from news

    @contextmanager
    def _tidied(self) -> Iterator[None]:
        """Options that are each right and do not go together get their sentence too; free memory goes back in any case."""
        try:
            with at_work() if self.heavy else nullcontext():
                yield
        except ValidationError as error:
            raise LabError(one_sentence(error, self.options)) from None
        finally:
            give_back()

    @property
    def offered(self) -> list[str]:
        """Options that the API takes."""
        return [name for name in self.options.model_fields if name not in self.closed]

    def asked(self, values: dict[str, Any]) -> Any:
        """Run for somebody behind the API, to the end; what is for the command line only is not known here."""
        for name in values:
            if name in self.closed:
                raise LabError(unknown("option", name, self.offered))
        return final(self(**values))


def final(result: Any) -> Any:
    """The last thing a long operation yields, or the result of a short one."""
    if not isinstance(result, Iterator):
        return result
    last = None
    for last in result:  # noqa: B007  (its last value is the result)
        pass
    return last
