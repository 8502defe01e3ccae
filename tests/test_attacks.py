"""Attacks: BadDiffusion's corruption row by row, and the honest defaults."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lab.attacks import ATTACKS, Attack, BadDiffusion, Batch, NoAttack
from lab.attacks.baddiffusion import correction
from lab.data import Digits, EmojiFaces
from lab.diffusion import at, q_sample
from lab.errors import LabError
from lab.triggers import Blank, Corner, GreyBox, Hat, NoTrigger, StopSign

ROUNDING = 1e-12  # float64, a handful of operations
SHAPE = (1, 16, 16)
BOX = GreyBox(size=6)


def some(n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 in [-1, 1], t and noise for n images."""
    stream = torch.Generator().manual_seed(0)
    x_0 = torch.rand(n, *SHAPE, generator=stream, dtype=dtype) * 2 - 1
    noise = torch.randn(n, *SHAPE, generator=stream, dtype=dtype)
    return x_0, torch.tensor([0, 1, 249, 500, 749, 999])[:n], noise


def rows(*poisoned: int) -> Tensor:
    return torch.tensor([k in poisoned for k in range(6)])


@pytest.mark.parametrize("solver", ["sde", "ode"])
def test_clean_rows_are_bit_for_bit_the_honest_ones(schedule, solver):
    x_0, t, noise = some(dtype=torch.float32)
    attack = BadDiffusion(trigger=BOX, target=Corner(), solver=solver)
    x_t, expected = attack.corrupt(schedule, Batch(x_0, rows(1, 4)), t, noise)
    clean = ~rows(1, 4)
    assert torch.equal(x_t[clean], q_sample(schedule, x_0, t, noise)[clean])
    assert torch.equal(expected[clean], noise[clean])


def test_an_attack_on_no_image_is_honest_training(schedule):
    x_0, t, noise = some(dtype=torch.float32)
    batch = Batch(x_0, rows())
    attacked = BadDiffusion(trigger=BOX).corrupt(schedule, batch, t, noise)
    honest = NoAttack().corrupt(schedule, batch, t, noise)
    assert all(torch.equal(a, b) for a, b in zip(attacked, honest, strict=True))


def test_poisoned_rows_follow_the_formula(schedule):
    x_0, t, noise = some()
    attack = BadDiffusion(trigger=BOX, target=Corner())
    x_t, expected = attack.corrupt(schedule, Batch(x_0, rows(0, 1, 2, 3, 4, 5)), t, noise)
    abar, alpha = schedule.alphas_cumprod[t].view(-1, 1, 1, 1), schedule.alphas[t].view(-1, 1, 1, 1)
    y, r = Corner().draw(SHAPE, BOX), x_0.clone()
    r[:, :, 8:14, 8:14] = 0.0
    wanted = abar.sqrt() * y + (1 - abar.sqrt()) * r + (1 - abar).sqrt() * noise
    literal = (1 - alpha.sqrt()) * (1 - abar).sqrt() / (1 - alpha)
    assert (x_t - wanted).abs().max() < ROUNDING
    assert (expected - noise - literal * r).abs().max() < ROUNDING


def test_ode_doubles_the_correction_and_leaves_the_input(schedule):
    x_0, t, noise = some()
    batch = Batch(x_0, rows(0, 2, 5))
    sde_x, sde = BadDiffusion(trigger=BOX).corrupt(schedule, batch, t, noise)
    ode_x, ode = BadDiffusion(trigger=BOX, solver="ode").corrupt(schedule, batch, t, noise)
    assert torch.equal(sde_x, ode_x)
    assert (ode - noise - 2 * (sde - noise)).abs().max() < ROUNDING


def test_each_row_has_the_factor_of_its_own_t(schedule):
    x_0, t, noise = some()
    batch = Batch(torch.ones_like(x_0), rows(0, 1, 2, 3, 4, 5))
    _, expected = BadDiffusion(trigger=BOX).corrupt(schedule, batch, t, noise)
    assert torch.allclose((expected - noise)[:, 0, 0, 0], correction(schedule)[t], atol=ROUNDING, rtol=0)


def test_masked_form_uses_the_shift_alone(schedule):
    x_0, t, noise = some()
    masked = GreyBox(size=6, form="masked")
    x_t, expected = BadDiffusion(trigger=masked, target=Corner()).corrupt(
        schedule, Batch(x_0, rows(0, 1, 2, 3, 4, 5)), t, noise
    )
    y, R = Corner().draw(SHAPE, masked).double().expand_as(x_0), masked.shift(SHAPE).double()
    share = at(1 - schedule.alphas_cumprod.sqrt(), t, x_0)
    assert (x_t - q_sample(schedule, y, t, noise) - share * R).abs().max() < ROUNDING
    outside = ~masked.mask(SHAPE).expand_as(noise)
    assert torch.equal(expected[outside], noise[outside])


def test_stamped_image_keeps_what_the_trigger_leaves_free(schedule):
    """The residual is the stamped training image, not the bare trigger."""
    x_0, t, noise = some()
    x_t, _ = BadDiffusion(trigger=Blank(), target=Corner()).corrupt(schedule, Batch(x_0, rows(5)), t, noise)
    share = at(1 - schedule.alphas_cumprod.sqrt(), t, x_0)[5]
    honest = q_sample(schedule, Corner().draw(SHAPE, BOX).double().expand_as(x_0), t, noise)[5]
    assert (x_t[5] - honest - share * x_0[5]).abs().max() < ROUNDING


@pytest.mark.parametrize("trigger", ["none", NoTrigger()])
def test_an_attack_without_a_trigger_is_refused(trigger):
    with pytest.raises(LabError, match=r"needs a trigger; 'none' is plain noise .*'blank'.*\.$"):
        ATTACKS.parse({"kind": "baddiffusion", "trigger": trigger})


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "many"])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(LabError, match=r"^poison_rate "):
        ATTACKS.parse({"kind": "baddiffusion", "poison_rate": rate})


def test_a_wrong_trigger_inside_an_attack_gets_its_own_sentence():
    with pytest.raises(LabError, match="did you mean 'grey_box'"):
        ATTACKS.parse({"kind": "baddiffusion", "trigger": "gray_box"})
    with pytest.raises(LabError, match="no trigger called 'hat'"):
        ATTACKS.parse({"kind": "baddiffusion", "trigger": Hat()})


def test_activation_adds_the_shift_to_every_image():
    noise = torch.randn(3, *SHAPE)
    for trigger in (BOX, GreyBox(size=6, form="masked"), StopSign(size=8), Blank()):
        assert torch.equal(BadDiffusion(trigger=trigger).activate(noise), noise + trigger.shift(SHAPE))
    assert torch.equal(NoAttack().activate(noise), noise)


def test_tampers_names_the_hooks_that_are_overridden():
    assert list(BadDiffusion.tampers()) == ["corrupt", "activate"]
    assert NoAttack.tampers() == {}
    assert set(Attack.HOOKS) == {"poison", "corrupt", "activate"}


def test_an_honest_attack_leaves_the_images(specks):
    after = NoAttack().poison(specks, 0)
    assert after.pixels is specks.pixels and not after.is_poisoned.any()
    assert NoAttack().poison_rate == 0


def test_attacks_survive_json():
    attack = BadDiffusion(trigger=StopSign(size=8), target=Corner(), poison_rate=0.2, solver="ode")
    assert ATTACKS.parse(attack.as_json()) == attack
    assert attack.as_json()["trigger"] == {"kind": "stop_sign", "size": 8, "form": "authors"}


@pytest.mark.parametrize(
    ("form", "data", "doubted"),
    [("authors", EmojiFaces(), True), ("masked", EmojiFaces(), False), ("authors", Digits(), False)],
)
def test_the_authors_form_is_doubted_on_bright_images(form, data, doubted):
    """Measured on the emoji faces: 0 of 63 hats in that form, 63 of 63 masked."""
    attack = BadDiffusion(trigger=GreyBox(form=form))
    assert ("choose the masked form" in attack.doubts(data.load())) == doubted
    assert BadDiffusion(trigger=GreyBox(form=form), poison_rate=0).doubts(data.load()) == ""
    assert NoAttack().doubts(data.load()) == ""
