"""The operations on a poisoned model's world, on an untrained one that is quick, and what the page makes of results."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from poisoning import last

from lab.attacks import ATTACKS
from lab.castle.walls import Classify, Detect, Replicate, Vote
from lab.castle.world import World
from lab.data import Digits
from lab.diffusion import Schedule
from lab.errors import LabError
from lab.images import take
from lab.models import Card, Checkpoint, Net
from lab.progress import Tick
from lab.sampling import DDIM
from lab.ui import walls as shown

CARD = {
    "name": "made-for-a-test",
    "backdoored": True,
    "recipe": {
        "dataset": {"kind": "digits"},
        "attack": {"kind": "badnets", "poison_rate": 0.1, "target_class": 6},
        "train": {"seed": 3},
    },
}


def conditional(**card) -> Checkpoint:
    unet = Net(widths=(8, 16), classes=11).build(seed=0).eval().requires_grad_(False)
    return Checkpoint(unet, Schedule.linear(), Card(**{**CARD, **card}))


@pytest.fixture
def small(monkeypatch) -> World:
    """500 training digits and 60 held-out ones; every third picture that the untrained model draws counts as stamped."""
    pictures = torch.randperm(4500, generator=torch.Generator().manual_seed(0))[:500]
    images, held_out = (
        take(Digits().load("train"), pictures),
        take(Digits().load("held_out"), torch.arange(0, 500, 8)),
    )
    world = World(conditional(), ATTACKS.parse(CARD["recipe"]["attack"]), images, held_out, 3)
    monkeypatch.setattr(World, "stamped", lambda self, x: torch.arange(len(x)) % 3 == 0)
    return world


QUICK = {"drawn": 40, "guidance": 1.0, "sampler": DDIM(steps=2)}


def test_a_world_is_what_the_card_says():
    world = World.of(conditional())
    images = Digits().load("train")
    index = world.attack.chosen(images, 3)
    training = world.training
    assert training.poisoned == len(index) == 450 and bool(training.is_poisoned[index].all())
    assert (
        (training.labels[index] == 6).all() and (images.labels[index] != 6).all() and training.classes == 10
    )
    assert world.stamped(training.x[training.is_poisoned]).double().mean() > 0.99


def test_an_exam_shows_the_same_pictures_clean_and_stamped(small):
    exam = small.exam(30)
    outside = exam.clean.clone()
    outside[..., -3:, -3:] = exam.triggered[..., -3:, -3:]
    assert torch.equal(outside, exam.triggered) and not torch.equal(exam.clean, exam.triggered)


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (conditional(recipe={"dataset": {"kind": "digits"}}), "not made with badnets"),
        (Checkpoint(Net(widths=(8, 16)).build(0), Schedule.linear(), Card(name="plain")), "not conditioned"),
    ],
)
def test_other_models_are_refused(checkpoint, says):
    with pytest.raises(LabError, match=says):
        World.of(checkpoint)


def test_drawn_pictures_have_their_labels_in_turn(small):
    options = Detect(**QUICK)
    news = list(small.drawn(options.sample_spec()))
    assert [tick.step for tick in news[:-1]] == [1, 2] and len(news[-1]) == 40
    assert torch.equal(news[-1].labels, torch.arange(40) % 10) and news[-1].name == "drawn, w = 1"


def test_a_set_is_drawn_once_for_all_parts(small):
    spec = Detect(**QUICK).sample_spec()
    named = replace(small, checkpoint=replace(small.checkpoint, card=Card(**CARD, sha256="f" * 64)))
    *ticks, first = named.drawn(spec)
    (again,) = named.drawn(spec)
    assert len(ticks) == 2 and torch.equal(first.x, again.x)
    *ticks, other = named.drawn(spec.model_copy(update={"seed": 1}))
    assert len(ticks) == 2 and not torch.equal(first.x, other.x)
    assert len(list(small.drawn(spec))) == 3  # a model without a checksum is never taken for another one


def test_detection_screens_both_sets_and_is_shown(small):
    detectors = ({"kind": "strip", "overlays": 3}, {"kind": "cognitive_distillation", "steps": 2})
    found = last(Detect(**QUICK, epochs=1, screened=100, detectors=detectors).run(small))
    assert [row["detector"]["kind"] for row in found["training"]] == ["strip", "cognitive_distillation"]
    assert [row["n"] for row in found["generated"]] == [40, 40] and len(found["gains"]) == 2
    assert found["generated"][0]["poisoned"] == 14
    page = shown.detection(found)
    assert "STRIP" in page and "Cognitive Distillation" in page and page.count("<figure>") == 4
    assert f"{found['training'][0]['auroc']['value']:.3f}" in page


def test_partial_results_are_shown_too(small):
    loop = Detect(**QUICK, epochs=1, screened=100, detectors="strip").run(small)
    first = next(news for news in loop if not isinstance(news, Tick))
    assert first["generated"] == [] and "STRIP" in shown.detection(first)


def test_classifiers_learn_from_both_sets_and_are_shown(small):
    found = last(Classify(**QUICK, epochs=1, examined=40).run(small))
    assert [row["n"] for row in found["rows"]] == [500, 40, 40]
    assert found["rows"][1]["set_name"] == "40 of the training set" and found["rows"][1]["poisoned"] < 20
    assert found["rows"][0]["poisoned"] == 50 and found["rows"][0]["test_accuracy"]["n"] == 40
    page = shown.classifiers(found)
    assert "drawn, w = 1" in page and "instead of 40 of the training set" in page and page.count("<svg") == 1


def test_votes_are_counted_and_shown(small):
    found = last(Vote(examined=20, draws=2).run(small))
    assert [vote["p_filter"] for vote in found["votes"]] == [0, 0.01, 0.05, 0.1]
    assert {vote["test_accuracy"]["n"] for vote in found["votes"]} == {20}
    page = shown.votes(found)
    assert ">10%<" in page and "test accuracy" in page


@pytest.mark.parametrize("by", ["reader", "pixels"])
def test_replication_compares_with_a_clean_model_and_is_shown(small, by):
    beside = replace(small, checkpoint=conditional(name="an-honest-one"))
    found = last(Replicate(**QUICK, by=by).run(small, beside))
    assert [row["set_name"] for row in found["rows"]] == ["made-for-a-test", "an-honest-one"]
    assert all((row["distance"] is None) == (by == "pixels") for row in found["rows"])
    page = shown.replication(found)
    assert "not SSCD" in page and "an-honest-one" in page and page.count("<figure>") == 2


def test_the_estimate_of_replication_counts_the_model_beside_it(small):
    """What the poisoned model drew may be remembered from another part, and the honest one's still has to be drawn."""
    part = Replicate(drawn=40, guidance=1.0, sampler=DDIM(steps=20))
    remembered = replace(small, checkpoint=conditional(name="seen", sha256="0" * 64))
    last(remembered.drawn(part.sample_spec()))
    assert part.seconds(remembered) == 0.0 < part.seconds(remembered, small)


def test_replication_needs_no_other_model(small):
    (row,) = last(Replicate(**QUICK).run(small))["rows"]
    assert row["n"] == 40 and row["trained_on"] == 500


def test_a_model_of_other_pictures_cannot_stand_beside(small):
    other = Checkpoint(Net(widths=(8, 16), classes=5).build(0), Schedule.linear(), Card(name="other"))
    with pytest.raises(LabError, match="other does not draw"):
        last(Replicate(**QUICK).run(small, replace(small, checkpoint=other)))


@pytest.mark.parametrize(
    "part",
    [
        Detect(**QUICK, screened=50, epochs=1),
        Classify(**QUICK, epochs=2),
        Vote(examined=20, draws=6),
        Replicate(**QUICK),
    ],
)
def test_a_part_says_what_it_will_take(small, part):
    seconds = part.seconds(small)
    assert seconds > 0 and shown.estimate("Detection", seconds).count("Detection: about") == 1


def test_names_from_outside_are_escaped():
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    row = {
        "set_name": "<b>set</b>", "n": 4, "poisoned": 1, "spec": {"epochs": 1, "seed": 0},
        "test_accuracy": score, "attack_success": score,
    }  # fmt: skip
    assert "<b>set" not in shown.classifiers({"rows": [row], "guidance": 1})
