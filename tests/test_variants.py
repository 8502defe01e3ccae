"""Options, variants and registries: what is accepted, and the sentences for what is not."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor

from lab.attacks import ATTACKS
from lab.data import DATASETS
from lab.errors import LabError, UnknownName
from lab.metrics import METRICS
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS, GreyBox, NoTrigger, OwnTarget, Trigger
from lab.variants import Registry, Variant

TABLES = [TRIGGERS, TARGETS, DATASETS, ATTACKS, SAMPLERS, METRICS]
ENTRIES = [pytest.param(table, kind, id=f"{table.what}-{kind}") for table in TABLES for kind in table]


class Cross(Trigger):
    """A white cross through the middle."""

    kind: ClassVar[str] = "cross"
    width: int = Field(2, ge=1, le=8)

    def draw(self, shape: tuple[int, int, int]) -> Tensor:
        """Two white bars."""
        g = torch.full(shape, -1.0)
        middle = slice(shape[1] // 2, shape[1] // 2 + self.width)
        g[:, middle] = 1.0
        g[:, :, middle] = 1.0
        return g


@pytest.mark.parametrize(("table", "kind"), ENTRIES)
def test_every_entry_survives_json(table, kind):
    variant = table[kind]() if kind not in ("hub", "folder", "own") else table.parse(kind)
    assert table.parse(variant.as_json()) == variant
    assert variant.as_json()["kind"] == kind


@pytest.mark.parametrize(("table", "kind"), ENTRIES)
def test_every_entry_says_what_it_is(table, kind):
    assert table[kind].__doc__ != table[kind].__base__.__doc__
    assert 10 < len(table[kind].help()) < 160


def test_a_new_trigger_is_one_class_and_one_table_line():
    table = Registry("trigger", *TRIGGERS.values(), Cross)
    cross = table.parse({"kind": "cross", "width": 3})
    x = torch.zeros(2, 1, 9, 9)
    assert cross == Cross(width=3)
    assert torch.equal(cross.shift((1, 9, 9)), cross.draw((1, 9, 9)))
    assert cross.mask((1, 9, 9)).sum() == 2 * 3 * 9 - 3 * 3
    assert torch.equal(cross.stamp(x)[1] == 1.0, cross.mask((1, 9, 9)))


def test_parse_takes_a_name_a_mapping_or_a_variant():
    assert TRIGGERS.parse("grey_box") == GreyBox()
    assert TRIGGERS.parse({"kind": "grey_box", "size": 8}) == GreyBox(size=8)
    assert TRIGGERS.parse(GreyBox(size=8)) == GreyBox(size=8)


def test_without_a_kind_a_mapping_means_the_first_of_its_table():
    assert TRIGGERS.parse({"size": 8}) == GreyBox(size=8)


def test_a_typing_error_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'grey_box'"):
        TRIGGERS.parse("grey_bax")
    with pytest.raises(LabError, match="no option called 'sise'; did you mean 'size'"):
        TRIGGERS.parse({"kind": "grey_box", "sise": 3})


@pytest.mark.parametrize("value", [None, 7, [], ["grey_box"], {"kind": 5}, {"kind": ["grey_box"]}])
def test_what_is_no_variant_is_refused(value):
    with pytest.raises(LabError, match="A trigger is a name"):
        TRIGGERS.parse(value)


@pytest.mark.parametrize("size", [0, -3, 10**30, 3.5, "wide", None, float("nan"), float("inf")])
def test_an_impossible_option_is_named(size):
    with pytest.raises(LabError, match=r"^size (is|has) "):
        TRIGGERS.parse({"kind": "grey_box", "size": size})


def test_an_option_may_have_any_name_and_is_still_refused_with_a_sentence():
    for name in ("cls", "self", "kind_", "__class__"):
        with pytest.raises(LabError, match="no option called"):
            TRIGGERS.parse({"kind": "grey_box", name: 1})


def test_a_variant_of_another_table_is_refused():
    with pytest.raises(LabError, match="OwnTarget is not a trigger"):
        TRIGGERS.parse(OwnTarget())
    with pytest.raises(LabError):
        TARGETS.parse(NoTrigger())


def test_two_of_one_kind_are_refused():
    with pytest.raises(LabError, match="share one kind"):
        Registry("trigger", GreyBox, GreyBox)


def test_variants_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        GreyBox().form = "masked"


def test_messages_stay_short_for_huge_input():
    with pytest.raises(LabError) as caught:
        TRIGGERS.parse("x" * 100_000)
    assert len(str(caught.value)) < 300
    with pytest.raises(LabError) as caught:
        TRIGGERS.parse({"kind": "grey_box", "size": "9" * 100_000})
    assert len(str(caught.value)) < 300


def test_help_is_the_first_line_only():
    class Wordy(Variant):
        """One line.

        And more.
        """

        kind = "wordy"

    assert Wordy.help() == "One line."
