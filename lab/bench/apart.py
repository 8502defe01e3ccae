"""Rivals in a process of their own, as their user has them: what the lab sets for memory and cores is not theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lab.bench import BENCHES, Case
from lab.bench.base import Seconds, timed
from lab.errors import LabError
from lab.places import ROOT

# what the other parts are compared with is a process of its own already, or the lab itself
APART = ("sampling", "training", "metrics")


class Rivals:
    """The rivals of a part of the benchmark, which run one at a time when they are told to."""

    def __init__(self, part: str, quick: bool):
        words = [sys.executable, "-m", "lab.bench.apart", part, *["--quick"] * quick]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def of(self, case: int) -> Seconds:
        """What runs the rival of the case with this number once and returns its seconds."""
        return lambda: self._run(case)

    def _run(self, case: int) -> float:
        assert self.process.stdin and self.process.stdout
        with suppress(BrokenPipeError):  # one that has ended says nothing either
            print(case, file=self.process.stdin, flush=True)
        said = self.process.stdout.readline()
        if not said:
            raise LabError("The process of the rivals has ended; what it said last stands above.")
        return float(said)

    def close(self) -> None:
        """Let it end: it reads no more numbers."""
        self.process.communicate()


@contextmanager
def rivals(part: str, quick: bool) -> Iterator[Rivals | None]:
    """Those of a part, or None where they need no process."""
    found = Rivals(part, quick) if part in APART else None
    try:
        yield found
    finally:
        if found:
            found.close()


def main() -> None:
    """Read numbers of cases, run their rivals, answer with seconds; whatever else is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    cases: list[Case] = []
    coming = BENCHES[sys.argv[1]]("--quick" in sys.argv)
    for wanted in map(int, sys.stdin):
        while len(cases) <= wanted:  # only what is asked for is made: the lab has compiled it by then
            cases.append(next(coming))
        print(timed(cases[wanted].rival), file=answers, flush=True)


if __name__ == "__main__":
    main()
