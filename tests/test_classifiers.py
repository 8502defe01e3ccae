"""Classifiers on poisoned sets: what they learn, how it is counted, and that the same seed is the same classifier."""

from __future__ import annotations

import pytest
import torch
from poisoning import TARGET, digit_exam, last, noise, poisoned_digits, stamped

from lab.castle.classifiers import (
    ClassifierSpec,
    Exam,
    accuracy,
    attack_success,
    learned,
    share,
    trained,
)
from lab.castle.labelled import Labelled
from lab.errors import LabError
from lab.metrics.pixel import wilson
from lab.progress import Tick

QUICK = ClassifierSpec(epochs=1, batch=32)


def random_set(n: int = 64) -> Labelled:
    return Labelled("noise", noise(n), torch.arange(n) % 4, torch.arange(n) < 5, 4)


def test_accuracy_counts_clean_pictures_and_attack_success_only_foreign_ones():
    exam = Exam(noise(5), noise(5), torch.tensor([0, 1, 2, 2, 1]), target=2)
    clean = accuracy(torch.tensor([0, 1, 2, 0, 0]), exam)
    assert (clean.value, clean.n) == (3 / 5, 5) and (clean.low, clean.high) == wilson(3, 5)
    turned = attack_success(torch.tensor([2, 1, 2, 2, 2]), exam)  # two of the three that are no 2
    assert (turned.value, turned.n) == (2 / 3, 3) and (turned.low, turned.high) == wilson(2, 3)


def test_a_share_is_what_is_true():
    assert share("hits", torch.tensor([True, False, False, True])).value == 0.5


def test_a_patch_that_decides_labels_is_learned_and_digits_are_too():
    data = poisoned_digits(1200, 120)
    found = last(learned(data, digit_exam(200), ClassifierSpec(epochs=4)))
    assert found.attack_success.low > 0.7 and found.test_accuracy.value > 0.8
    assert (found.n, found.poisoned) == (1200, 120)


def test_without_poison_the_patch_turns_nothing():
    found = last(learned(poisoned_digits(1200, 0), digit_exam(200), ClassifierSpec(epochs=4)))
    assert found.attack_success.value < 0.1


def test_the_same_seed_is_the_same_classifier_and_another_is_not():
    x = noise(8, seed=1)
    one, same, other = (
        last(trained(random_set(), QUICK.model_copy(update={"seed": seed}))).logits(x) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_nobody_elses_random_numbers_are_touched():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    last(trained(random_set(), QUICK))
    assert torch.equal(torch.rand(3), wanted)


def test_ticks_count_the_steps_that_were_promised():
    for n in (3, 40, 64, 100):
        ticks = [
            news
            for news in trained(random_set(n), ClassifierSpec(epochs=2, batch=32))
            if isinstance(news, Tick)
        ]
        assert [tick.step for tick in ticks] == list(range(1, ticks[0].total + 1))
        assert ticks[0].total == QUICK.model_copy(update={"epochs": 2}).steps(n)


def test_reading_does_not_depend_on_how_many_are_looked_at_together(monkeypatch):
    classifier, x = last(trained(random_set(), QUICK)), noise(10, seed=3)
    whole = classifier.read(x)
    monkeypatch.setattr("lab.castle.classifiers.CHUNK", 3)
    assert torch.equal(classifier.read(x), whole)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": torch.zeros(3, dtype=torch.long)}, "a label and a poison mark"),
        ({"labels": torch.full((64,), 4)}, "run from 0 to 3"),
        ({"x": noise(64, side=16)}, "at least 24×24"),
    ],
)
def test_a_set_that_does_not_fit_together_is_refused(change, says):
    data = random_set()
    whole = {"x": data.x, "labels": data.labels, "is_poisoned": data.is_poisoned, **change}
    with pytest.raises(LabError, match=says):
        Labelled("noise", classes=4, **whole)


def test_an_exam_needs_something_to_turn():
    with pytest.raises(LabError, match="other classes than the target"):
        Exam(noise(2), stamped(noise(2)), torch.tensor([TARGET, TARGET]), TARGET)


def test_a_sample_is_drawn_by_its_seed():
    data = random_set()
    assert torch.equal(data.sample(10, 0), data.sample(10, 0))
    assert not torch.equal(data.sample(10, 0), data.sample(10, 1))
    assert torch.equal(data.sample(1000, 0), torch.arange(64))
