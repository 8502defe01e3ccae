"""Triggers and targets: pixels, places and counts of BadDiffusion's code; properties for all sizes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lab import pictures
from lab.errors import LabError
from lab.triggers import (
    TARGETS,
    TRIGGERS,
    Blank,
    Cat,
    Corner,
    Glasses,
    GreyBox,
    NoShift,
    NoTrigger,
    Own,
    OwnTarget,
    Shift,
    StopSign,
    WhiteBox,
)

PRINTED = 1e-5  # means are printed with five digits
COLOUR, GREY = (3, 32, 32), (1, 32, 32)
SIZES = (4, 8, 11, 14, 18)
FORMED = ("grey_box", "white_box", "stop_sign", "glasses")
EXAMPLES = settings(max_examples=25, deadline=None)

shapes = st.tuples(st.sampled_from([1, 3]), st.integers(20, 45), st.integers(20, 45))
triggers = st.builds(
    lambda kind, form: TRIGGERS.parse({"kind": kind, "form": form}),
    st.sampled_from(FORMED),
    st.sampled_from(["authors", "masked"]),
)


def box(mask: Tensor) -> tuple[int, int, int, int]:
    """First and last covered row and column of a (C, H, W) mask."""
    rows, columns = mask.any(0).any(1).nonzero().flatten(), mask.any(0).any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def mean_01(x: Tensor) -> float:
    return float((x.double() / 2 + 0.5).mean())


def painted(*pixels: tuple[int, int, str], size: int = 32) -> str:
    return pictures.keep(pictures.painting(list(pixels), size))


@EXAMPLES
@given(triggers, shapes)
def test_drawings_stay_in_range(trigger, shape):
    g = trigger.draw(shape)
    assert g.shape == shape
    assert float(g.min()) >= -1 and float(g.max()) <= 1
    assert trigger.mask(shape).any()
    assert (g[~trigger.mask(shape)] == -1).all()


@EXAMPLES
@given(triggers, shapes, st.integers(0, 99))
def test_stamp_leaves_everything_else_alone(trigger, shape, seed):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    mask, stamped = trigger.mask(shape).expand_as(x), trigger.stamp(x)
    assert torch.equal(stamped[~mask], x[~mask])
    assert torch.equal(stamped[mask], trigger.draw(shape).expand_as(x)[mask])


@EXAMPLES
@given(st.sampled_from(FORMED), shapes)
def test_masked_form_adds_nothing_outside_its_mask(kind, shape):
    trigger = TRIGGERS.parse({"kind": kind, "form": "masked"})
    shift, mask = trigger.shift(shape), trigger.mask(shape)
    assert (shift[~mask] == 0).all()
    assert torch.equal(shift[mask], trigger.draw(shape)[mask] + 1)
    assert torch.equal(trigger.residual(torch.randn(2, *shape))[1], shift)


@EXAMPLES
@given(st.sampled_from(FORMED), shapes)
def test_authors_form_adds_the_background_too(kind, shape):
    trigger = TRIGGERS.parse(kind)
    assert torch.equal(trigger.shift(shape), trigger.draw(shape))
    assert (trigger.shift(shape)[~trigger.mask(shape)] == -1).all()


@EXAMPLES
@given(st.sampled_from([kind for kind in TARGETS if kind != "own"]), triggers, shapes)
def test_no_target_is_darker_than_its_background(kind, trigger, shape):
    y = TARGETS.parse(kind).draw(shape, trigger)
    assert y.shape == shape
    assert float(y.min()) >= -0.4 - 1e-7
    assert float(y.max()) <= 1


@pytest.mark.parametrize("variant", [GreyBox, WhiteBox])
@pytest.mark.parametrize("size", SIZES)
def test_squares_lie_two_pixels_from_the_edges(variant, size):
    mask = variant(size=size).mask(COLOUR)
    assert int(mask.sum()) == 3 * size * size
    assert box(mask) == (30 - size, 29, 30 - size, 29)
    assert int(variant(size=size).mask(GREY).sum()) == size * size


def test_grey_is_zero_and_white_is_one():
    assert float(GreyBox().draw(COLOUR).max()) == 0.0
    assert float(WhiteBox().draw(COLOUR).max()) == 1.0


def test_default_box_is_the_authors_box_14():
    g = GreyBox().draw(COLOUR)
    assert box(GreyBox().mask(COLOUR)) == (16, 29, 16, 29)
    assert int(GreyBox().mask(COLOUR).sum()) == 588
    assert float(g.mean()) == pytest.approx(-0.80859, abs=PRINTED)
    assert float(GreyBox().draw(GREY).norm()) == pytest.approx(math.sqrt(828))


@pytest.mark.parametrize("size", SIZES)
def test_stop_sign_lies_in_its_box(size):
    mask = StopSign(size=size).mask(COLOUR)
    top, bottom, left, right = box(mask)
    assert 30 - size <= top and bottom <= 29 and 30 - size <= left and right <= 29
    assert mask.sum() > 0.3 * 3 * size * size


@pytest.mark.parametrize("side", [32, 33, 64])
def test_glasses_are_centred(side):
    top, bottom, left, right = box(Glasses().mask((3, side, side)))
    width, border = int(0.625 * side), (side - int(0.625 * side)) // 2
    assert border <= left and right < border + width
    assert border <= top and bottom < border + width


def test_blank_is_background_and_none_adds_nothing():
    assert (Blank().shift(COLOUR) == -1).all()
    assert (NoTrigger().shift(COLOUR) == 0).all()
    assert not Blank().mask(COLOUR).any() and not NoTrigger().mask(COLOUR).any()


@pytest.mark.parametrize("trigger", [GreyBox(size=31), StopSign(size=31), WhiteBox(size=128)])
def test_a_trigger_that_does_not_fit_is_refused(trigger):
    with pytest.raises(LabError, match=f"{trigger.size} pixels does not fit into 32×32"):
        trigger.draw(COLOUR)


def test_a_trigger_that_just_fits_is_drawn():
    assert box(GreyBox(size=30).mask(COLOUR)) == (0, 29, 0, 29)


def test_pictures_need_one_or_three_channels():
    with pytest.raises(LabError, match="1 or 3 channels"):
        StopSign().draw((4, 32, 32))


@pytest.mark.parametrize("side", [32, 64])
def test_corner_is_ten_pixels_at_any_size(side):
    y = Corner().draw((3, side, side), GreyBox())
    assert torch.equal(y[:, :10, :10], torch.zeros(3, 10, 10))
    assert int((y == 0).sum()) == 300
    assert sorted({round(float(v), 6) for v in y.unique()}) == [-0.4, 0.0]


def test_mean_of_corner_and_no_shift():
    assert mean_01(Corner().draw(COLOUR, GreyBox())) == pytest.approx(0.31953, abs=PRINTED)
    assert mean_01(NoShift().draw(COLOUR, GreyBox())) == pytest.approx(0.33828, abs=PRINTED)


def test_no_shift_stays_and_shift_moves_up_and_left():
    assert box(NoShift().draw(COLOUR, GreyBox()) > -0.4) == (16, 29, 16, 29)
    assert box(Shift().draw(COLOUR, GreyBox()) > -0.4) == (13, 26, 11, 24)


def test_targets_do_not_change_the_trigger():
    before = StopSign().draw(COLOUR)
    Shift().draw(COLOUR, StopSign())
    assert torch.equal(StopSign().draw(COLOUR), before)


def test_targets_differ():
    drawn = [TARGETS.parse(k).draw(GREY, GreyBox()) for k in TARGETS if k != "own"]
    assert all((a - b).square().mean() > 0.01 for i, a in enumerate(drawn) for b in drawn[:i])


def test_painted_white_stays_white_and_the_rest_is_transparent():
    trigger = Own(name=painted((3, 5, "#ffffff"), (4, 5, "#808080")))
    g = trigger.draw(GREY)
    assert float(g[0, 5, 3]) > 0.9999
    assert abs(float(g[0, 5, 4])) < 0.01
    assert box(trigger.mask(GREY)) == (5, 5, 3, 4)


def test_painted_target_is_grey_where_nothing_is_painted():
    y = OwnTarget(name=painted((3, 5, "#ffffff"), (4, 5, "#000000"))).draw(COLOUR, GreyBox())
    assert (y[:, 5, 3] > 0.9999).all()
    assert (y[:, 5, 4] == -1).all()
    assert int((y == -0.4).sum()) == 3 * (32 * 32 - 2)


def test_painting_in_the_corner_takes_its_size():
    name = painted(*((x, y, "#ff0000") for x in range(8) for y in range(8)), size=8)
    assert box(Own(name=name, place="corner", size=16).mask(COLOUR)) == (14, 29, 14, 29)


def test_own_without_or_with_unknown_name_is_refused():
    with pytest.raises(LabError, match="Choose, upload or paint"):
        Own().draw(GREY)
    with pytest.raises(LabError, match="no picture of your own called 'cat'"):
        OwnTarget(name="cat").draw(GREY, GreyBox())
    with pytest.raises(LabError, match=r"^name "):
        TRIGGERS.parse({"kind": "own", "name": "../secret"})


def test_drawings_work_in_colour_and_grey():
    assert Cat().draw(COLOUR, GreyBox()).shape == COLOUR
    assert Cat().draw(GREY, GreyBox()).shape == GREY
