"""A detector gives each picture of a set a score: the higher, the more it looks poisoned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.castle.classifiers import Classifier, ClassifierSpec
from lab.castle.labelled import Labelled
from lab.progress import Tick
from lab.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Suspicion:
    """What a detector has to go on: it never sees `is_poisoned`.

    data: the whole set; index: (n,) which of its pictures get a score; classifier: trained on the whole set by spec.
    """

    data: Labelled
    index: Tensor
    classifier: Classifier
    spec: ClassifierSpec
    seed: int = 0


class Detector(Variant):
    """A way to find poisoned pictures without knowing the trigger."""

    def scores(self, given: Suspicion) -> Iterator[Tick | Tensor]:
        """Ticks, then a score for each of given.index, (n,) float64."""
        raise NotImplementedError
