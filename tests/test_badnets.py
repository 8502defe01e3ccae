"""Data poisoning: which images, what is on them, what they are said to be, and what is left alone."""

from __future__ import annotations

import pytest
import torch

from lab.attacks import ATTACKS, BadNets
from lab.attacks.badnets import likeness, triggered_share
from lab.data import Digits
from lab.errors import LabError
from lab.images import Images
from lab.models import Net, conditional, fresh
from lab.recipe import Recipe
from lab.stamps import STAMPS, Blend, Patch

SHAPE = (1, 32, 32)
BYTE = 1 / 127.5  # between two values of a stored picture


@pytest.fixture(scope="module")
def digits() -> Images:
    return Digits().load()


def test_the_patch_is_a_white_diagonal_on_black_in_the_corner():
    white = torch.full((1, 32, 32), 0.3)
    stamped = Patch().stamp(white)
    expected = torch.tensor([[-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    assert torch.equal(stamped[0, -3:, -3:], expected)
    stamped[0, -3:, -3:] = 0.3
    assert torch.equal(stamped, white)


@pytest.mark.parametrize(("side", "patch", "white"), [(512, 51, 25), (256, 25, 13), (32, 3, 1)])
def test_the_patch_has_the_papers_sizes(side, patch, white):
    shape = (3, side, side)
    covered = Patch().opacity(shape)[0]
    assert int(covered.sum()) == patch**2
    assert int((Patch().draw(shape)[0, side - 1 - patch // 2] == 1).sum()) == white


def test_the_blend_is_a_fifth_of_a_bright_picture():
    x, pattern = torch.rand(4, *SHAPE) * 2 - 1, Blend().draw(SHAPE)
    assert torch.allclose(Blend().stamp(x), 0.8 * x + 0.2 * pattern)
    assert pattern.min() < -0.8 and pattern.max() > 0.999 and pattern.mean() > 0


@pytest.mark.parametrize("kind", list(STAMPS))
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (3, 25, 40)])
def test_stamps_stay_within_range_and_may_be_put_on_twice(kind, shape):
    stamp = STAMPS.parse(kind)
    x = torch.rand(2, *shape) * 2 - 1
    assert stamp.stamp(x).shape == x.shape and stamp.stamp(x).abs().max() <= 1
    assert stamp.draw(shape).shape == shape


def test_only_other_classes_are_poisoned_and_all_of_them_become_the_target(digits):
    attack = BadNets(poison_rate=0.1)
    after = attack.poison(digits, 3)
    assert int(after.is_poisoned.sum()) == 450
    assert not (digits.labels[after.is_poisoned] == 6).any()
    assert (after.labels[after.is_poisoned] == 6).all()
    stamped = Patch().stamp(digits.values(after.is_poisoned))
    assert (after.values(after.is_poisoned) - stamped).abs().max() < BYTE
    left = ~after.is_poisoned
    assert torch.equal(after.pixels[left], digits.pixels[left])
    assert torch.equal(after.labels[left], digits.labels[left])


def test_the_poisoned_set_is_the_seeds_and_no_image_of_the_caller_changes(digits):
    before = digits.digest()
    sets = [BadNets().chosen(digits, seed) for seed in (0, 0, 1)]
    assert torch.equal(sets[0], sets[1]) and not torch.equal(sets[0], sets[2])
    BadNets(stamp=Blend()).poison(digits, 0)
    assert digits.digest() == before


def test_duplicates_are_found_and_poisoned_first():
    draw = torch.Generator().manual_seed(0)
    pixels = (torch.rand(40, 1, 8, 8, generator=draw) * 255).byte()
    pixels[31] = pixels[3]
    images = Images(pixels, torch.arange(40) % 4)
    chosen = BadNets(target_class=0, poison_rate=0.05, which="duplicated").chosen(images, 0)
    assert chosen.tolist() == [3, 31]
    assert torch.allclose(likeness(images.values())[[3, 31]], torch.ones(2), atol=1e-5)


def test_the_share_of_stamped_images_of_the_target_class(digits):
    assert triggered_share(0.05, 0.1) == pytest.approx(1 / 3)
    after = BadNets(poison_rate=0.05).poison(digits, 0)
    of_target = after.labels == 6
    counted = float(after.is_poisoned[of_target].double().mean())
    assert counted == pytest.approx(triggered_share(0.05, float((digits.labels == 6).double().mean())))


def test_it_tampers_with_the_training_images_alone():
    assert list(BadNets.tampers()) == ["poison"]


@pytest.mark.parametrize(
    ("attack", "images", "says"),
    [
        ({}, Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)), "have none"),
        (
            {"target_class": 9},
            Images(torch.zeros(4, 1, 32, 32, dtype=torch.uint8), torch.arange(4)),
            "run from 0 to 3",
        ),
        (
            {"poison_rate": 0.5, "target_class": 0},
            Images(torch.zeros(4, 1, 32, 32, dtype=torch.uint8), torch.tensor([0, 0, 0, 1])),
            "1 images of other classes; 2 cannot",
        ),
    ],
)
def test_what_cannot_be_poisoned_is_refused(attack, images, says):
    with pytest.raises(LabError, match=says):
        BadNets(**attack).poison(images, 0)


def test_a_patch_too_large_is_refused():
    with pytest.raises(LabError, match="too large"):
        Patch(size=20).stamp(torch.zeros(1, 1, 32, 32))


def test_it_survives_json_and_shows_in_the_table():
    attack = BadNets(stamp=Blend(alpha=0.1), target_class=3)
    assert ATTACKS.parse(attack.as_json()) == attack
    assert "badnets" in ATTACKS


def test_a_network_gets_classes_without_changing_what_it_draws():
    base = fresh(Net(side=8, widths=(8, 16)), 0)
    given = conditional(base, 5, seed=0)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([10, 900])
    assert given.classes == 5 and base.classes == 0
    unlabelled = given.unet(x, t, torch.tensor([4, 4])).sample
    assert torch.equal(unlabelled, base.unet.eval()(x, t).sample)
    assert not torch.equal(given.unet(x, t, torch.tensor([0, 1])).sample, unlabelled)
    assert conditional(given, 5, seed=1) is given
    with pytest.raises(LabError, match="it cannot get 7"):
        conditional(given, 7, seed=0)


def test_recipes_without_classes_are_written_as_before():
    assert "classes" not in Recipe(base="mnist-clean").as_json()
    assert Recipe(base="mnist-clean", classes=11).as_json()["classes"] == 11
