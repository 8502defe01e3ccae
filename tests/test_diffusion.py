"""The schedule and the forward process, against diffusers and the published check values."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler

from lab.attacks.baddiffusion import correction
from lab.diffusion import (
    BETA_SCHEDULES,
    Schedule,
    ancestral_mean,
    at,
    generators,
    image_seeds,
    predict_x_0,
    q_sample,
    seeded_noise,
)
from lab.errors import LabError

FLOAT32 = 1e-5  # diffusers keeps its schedule in float32
PRINTED = 1e-6  # the check values are printed with six digits
EXACT = 1e-12  # float64 with room for a thousand roundings

CHECK_VALUES = {  # t: (abar_t, 1 - sqrt(abar_t), C_t)
    0: (0.9999, 5.0001e-5, 0.00500013),
    99: (0.897018, 0.0528896, 0.160537),
    249: (0.524085, 0.276063, 0.345370),
    499: (0.0785872, 0.719666, 0.481162),
    749: (0.00335055, 0.942116, 0.501050),
    999: (4.03583e-5, 0.993647, 0.502515),
}


class Noiseless(DDPMScheduler):
    """diffusers' scheduler without the random part of a step: what is left is the mean."""

    def _get_variance(self, *args, **kwargs):
        return torch.zeros(())


def every_t(schedule: Schedule) -> torch.Tensor:
    return torch.arange(schedule.T)


def images(n: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kind", BETA_SCHEDULES)
def test_schedule_equals_diffusers(kind):
    config = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": kind}
    theirs = DDPMScheduler(**config).alphas_cumprod.double()
    assert (Schedule.from_config(config).alphas_cumprod - theirs).abs().max() < FLOAT32


@pytest.mark.parametrize("t", CHECK_VALUES)
def test_published_check_values(schedule, t):
    abar, share, factor = CHECK_VALUES[t]
    assert float(schedule.alphas_cumprod[t]) == pytest.approx(abar, abs=PRINTED)
    assert 1 - math.sqrt(schedule.alphas_cumprod[t]) == pytest.approx(share, abs=PRINTED)
    assert float(correction(schedule)[t]) == pytest.approx(factor, abs=PRINTED)


def test_closed_form_of_the_correction_equals_the_literal_one(schedule):
    alpha, abar = schedule.alphas, schedule.alphas_cumprod
    literal = (1 - alpha.sqrt()) * (1 - abar).sqrt() / (1 - alpha)
    assert (correction(schedule) - literal).abs().max() < EXACT


def test_everything_is_float64(schedule):
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == torch.float64
    assert schedule.T == 1000


def test_unknown_schedule_is_refused():
    config = {
        "num_train_timesteps": 10,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "sigmoid",
    }
    with pytest.raises(LabError, match="linear, scaled_linear, squaredcos_cap_v2"):
        Schedule.from_config(config)


def test_trigger_share_telescopes_through_ancestral_steps(schedule):
    """With the exact regression target as output, 1 - √ᾱ_t of the trigger becomes exactly 1 - √ᾱ_{t-1}."""
    t, T = every_t(schedule), schedule.T
    y, noise, r = images(T, 0), images(T, 1), images(T, 2)
    share = 1 - schedule.alphas_cumprod.sqrt()
    x_t = q_sample(schedule, y, t, noise)
    clean = ancestral_mean(schedule, x_t, t, noise)
    poisoned = ancestral_mean(
        schedule, x_t + at(share, t, r) * r, t, noise + at(correction(schedule), t, r) * r
    )
    earlier = torch.cat([torch.zeros(1, dtype=torch.float64), share[:-1]])
    assert (poisoned - clean - at(earlier, t, r) * r).abs().max() < EXACT


def test_ancestral_mean_has_the_form_of_diffusers(schedule):
    """Their formula on our float64 schedule, at every t."""
    scheduler = Noiseless(clip_sample=False)
    scheduler.alphas, scheduler.alphas_cumprod = schedule.alphas, schedule.alphas_cumprod
    scheduler.betas, scheduler.one = schedule.betas, torch.ones((), dtype=torch.float64)
    x_t, eps = images(schedule.T, 0), images(schedule.T, 1)
    theirs = [scheduler.step(eps[t], t, x_t[t]).prev_sample for t in range(schedule.T)]
    assert (ancestral_mean(schedule, x_t, every_t(schedule), eps) - torch.stack(theirs)).abs().max() < EXACT


@pytest.mark.parametrize("t", [60, 249, 500, 999])
def test_ancestral_mean_agrees_with_diffusers(schedule, t):
    """As it ships; below t = 60 their float32 1 - abar has lost too many digits for a comparison to 1e-5."""
    x_t, eps = images(4, 0, torch.float32), images(4, 1, torch.float32)
    theirs = Noiseless(clip_sample=False).step(eps, t, x_t).prev_sample
    ours = ancestral_mean(schedule, x_t.double(), torch.full((4,), t), eps.double())
    assert (ours - theirs).abs().max() < FLOAT32


def test_q_sample_agrees_with_diffusers(schedule):
    t = torch.tensor([0, 10, 500, 999])
    x_0, noise = images(4, 0, torch.float32), images(4, 1, torch.float32)
    theirs = DDPMScheduler().add_noise(x_0, noise, t)
    assert (q_sample(schedule, x_0, t, noise) - theirs).abs().max() < FLOAT32


def test_predict_x_0_undoes_q_sample(schedule):
    t = every_t(schedule)
    x_0, noise = images(schedule.T, 0), images(schedule.T, 1)
    assert (predict_x_0(schedule, q_sample(schedule, x_0, t, noise), t, noise) - x_0).abs().max() < EXACT


def test_coefficients_take_type_and_rank_of_the_images(schedule):
    values = at(schedule.betas, torch.tensor([0, 999]), torch.zeros(2, 3, 4, 5))
    assert values.shape == (2, 1, 1, 1)
    assert values.dtype == torch.float32


def test_image_seeds_do_not_depend_on_their_number():
    assert image_seeds(7, 5)[3:] == image_seeds(7, 2, start=3)
    assert len(set(image_seeds(0, 1000) + image_seeds(1, 1000))) == 2000
    assert all(0 <= seed < 2**63 for seed in image_seeds(2**31 - 1, 10))


def test_noise_of_an_image_is_bitwise_its_own():
    all_five = seeded_noise((1, 4, 4), generators(image_seeds(3, 5)))
    for k in range(5):
        alone = seeded_noise((1, 4, 4), generators(image_seeds(3, 1, start=k)))
        assert torch.equal(alone[0], all_five[k])


def test_noise_is_standard_normal():
    noise = seeded_noise((100, 100), generators(image_seeds(0, 10)))
    assert abs(float(noise.mean())) < 4 / math.sqrt(noise.numel())
    assert abs(float(noise.std()) - 1) < 4 / math.sqrt(noise.numel())
