"""Screen a set: train a classifier on it, let each detector score its pictures, and hold that against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lab.castle.classifiers import ClassifierSpec, trained
from lab.castle.detection.auroc import auroc, curve
from lab.castle.detection.base import Detector, Suspicion
from lab.castle.labelled import Labelled
from lab.errors import LabError
from lab.metrics.base import Score
from lab.progress import Tick, result_of
from lab.report import difference
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

SUSPECTS = 24  # pictures that are shown


class Screened(Options):
    """What one detector made of one set."""

    set_name: str
    detector: dict[str, Any]
    n: int  # pictures with a score
    poisoned: int  # of them
    trained_on: int
    spec: ClassifierSpec
    seed: int
    auroc: Score
    curve: list[tuple[float, float]]
    suspects: list[int]  # of the set, the most suspect first
    caught: list[bool]  # which of these are poisoned


def screen(
    data: Labelled, detectors: Sequence[Detector], spec: ClassifierSpec, n: int, seed: int = 0
) -> Iterator[Tick | Screened]:
    """A classifier is trained on the whole set; n of its pictures, drawn by the seed, get a score of each detector."""
    index = data.sample(n, seed)
    if not 0 < data.take(index).poisoned < len(index):
        raise LabError(
            f"{data.name} needs poisoned and clean pictures among the {len(index)} that are screened."
        )
    classifier = yield from result_of(trained(data, spec))
    given = Suspicion(data, index, classifier, spec, seed)
    for detector in detectors:
        scores = yield from result_of(detector.scores(given))
        yield screened(detector, given, scores)


def screened(detector: Detector, given: Suspicion, scores: Tensor) -> Screened:
    """The scores held against the truth, which no detector saw."""
    truth = given.data.is_poisoned[given.index]
    first = scores.argsort(descending=True, stable=True)[:SUSPECTS]
    return Screened(
        set_name=given.data.name,
        detector=detector.as_json(),
        n=len(scores),
        poisoned=int(truth.sum()),
        trained_on=len(given.data),
        spec=given.spec,
        seed=given.seed,
        auroc=auroc(scores, truth),
        curve=curve(scores, truth),
        suspects=given.index[first].tolist(),
        caught=truth[first].tolist(),
    )


class Gain(Options):
    """How much easier a generated set is to screen than the training set, by one detector."""

    detector: str
    gain: float
    low: float
    high: float


def gains(training: Sequence[Screened], generated: Sequence[Screened]) -> list[Gain]:
    """AUROC on the generated set minus AUROC on the training set, with its 95 % interval (MOVER), detector by detector."""
    before = {each.detector["kind"]: each.auroc.model_dump() for each in training}
    found = []
    for each in generated:
        kind = each.detector["kind"]
        change = difference(before[kind], each.auroc.model_dump()) if kind in before else None
        if change:
            found.append(Gain(detector=kind, gain=change[0], low=change[1], high=change[2]))
    return found
