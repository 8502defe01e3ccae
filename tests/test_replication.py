"""Replication: planted copies are found, likeness is what it says, duplicates are chosen by their twins."""

from __future__ import annotations

import pytest
import torch
from poisoning import noise, shuffled

from lab.castle.labelled import Labelled
from lab.castle.replication import Gallery, Pixels, most_duplicated, planted, replicated
from lab.errors import LabError
from lab.metrics.reader import DIGITS

SAME = 1e-9
N = 60


def digits(n: int = N) -> Labelled:
    x, labels = shuffled("train", n)
    return Labelled("digits", x, labels, torch.arange(n) % 3 == 0, 10)


@pytest.fixture(params=[Pixels(), DIGITS], ids=lambda each: each.name)
def describer(request):
    return request.param


def test_pixel_likeness_is_the_correlation():
    training, images = digits(), noise(4, 32)
    found, index = Gallery.of(training, Pixels()).nearest(images)
    for k in range(4):
        rows = torch.cat([images[k : k + 1], training.x]).flatten(1)
        correlations = torch.corrcoef(rows.double())[0, 1:]
        assert float(found[k]) == pytest.approx(float(correlations.max()), abs=SAME)
        assert int(index[k]) == int(correlations.argmax())


def test_copies_are_found_and_are_wholly_alike(describer):
    training = digits()
    chosen = torch.tensor([17, 3, 42])
    likeness, index = Gallery.of(training, describer).nearest(training.x[chosen])
    assert index.tolist() == chosen.tolist() and (1 - likeness).abs().max() < 1e-6


def test_a_twin_is_another_picture(describer):
    training = planted(digits(), torch.tensor([5, 9]), copies=1)
    likeness, index = Gallery.of(training, describer).twins()
    assert (index != torch.arange(len(training))).all()
    assert index[[5, 9, N, N + 1]].tolist() == [N, N + 1, 5, 9]
    assert (1 - likeness[[5, 9, N, N + 1]]).abs().max() < 1e-6


def test_blocks_change_nothing(describer, monkeypatch):
    gallery = Gallery.of(digits(), describer)
    whole = gallery.twins()
    monkeypatch.setattr("lab.castle.replication.BLOCK", 7)
    parts = gallery.twins()
    assert torch.allclose(whole[0], parts[0], atol=SAME) and torch.equal(whole[1], parts[1])


def test_the_most_duplicated_are_those_that_were_planted(describer):
    training = digits()
    target = int(training.labels[0])
    foreign = (training.labels != target).nonzero()[:4, 0]
    # one of the target's class too
    whole = planted(training, torch.cat([foreign, torch.tensor([0])]), copies=2)
    found = most_duplicated(whole, target, 12, describer)
    wanted = [*foreign.tolist(), *(N + 5 * copy + k for copy in range(2) for k in range(4))]
    assert found.tolist() == sorted(wanted)


def test_planting_keeps_labels_and_marks():
    training, index = digits(), torch.tensor([0, 1])
    whole = planted(training, index, copies=3)
    assert len(whole) == N + 6 and whole.labels[N:].tolist() == training.labels[index].tolist() * 3
    assert whole.is_poisoned[N:].tolist() == [True, False] * 3


def test_no_more_duplicates_than_there_are_pictures():
    training = digits()
    for count in (0, N):
        with pytest.raises(LabError, match="were asked for"):
            most_duplicated(training, int(training.labels[0]), count, Pixels())


def test_a_result_counts_whose_copies_they_are(describer):
    training = digits()
    images = torch.cat([training.x[[0, 3, 1]], noise(1, 32)])
    found = replicated("drawn", images, training, describer)
    assert [pair.b for pair in found.pairs[:3]] == [pair.a and [0, 3, 1][pair.a] for pair in found.pairs[:3]]
    assert {pair.a for pair in found.pairs[:3]} == {0, 1, 2} and all(
        pair.a_b > 0.9999 for pair in found.pairs[:3]
    )
    assert [pair.poisoned for pair in sorted(found.pairs[:3], key=lambda pair: pair.a)] == [True, True, False]
    assert found.copies.value == 0.75 and found.n == 4 and found.trained_on == N
    assert found.of_poisoned is not None and found.of_clean is not None
    assert found.of_poisoned.n + found.of_clean.n == 4
    assert found.nearest_poisoned.value == found.of_poisoned.n / 4


def test_likeness_is_summed_up_with_its_background(describer):
    training = digits()
    found = replicated("drawn", training.x[:10], training, describer)
    assert found.likeness.value == pytest.approx(1, abs=1e-6)
    twins = Gallery.of(training, describer).twins()[0]
    assert found.background[50] == pytest.approx(float(twins.median()), abs=0.02)
    assert list(found.percentiles) == [50, 75, 90, 95] and found.describer == describer.name


def test_nothing_is_like_nothing():
    with pytest.raises(LabError, match="no pictures"):
        replicated("drawn", torch.zeros(0, 1, 32, 32), digits(), Pixels())
