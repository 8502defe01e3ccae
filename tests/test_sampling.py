"""Sampling: our loop against diffusers' own steps, three ways to clip, seeds, predicted x_0 and guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from lab.diffusion import Schedule, generators, image_seeds, seeded_noise
from lab.engine import Denoiser
from lab.errors import LabError
from lab.sampling import CLIPS, DDIM, DDPM, SAMPLERS, Denoised, SampleSpec, Start, network_of, p_sample_loop

STEP = 1e-6  # the same float32 operations in the same order
PRINTED = 1e-4  # golden figures carry four digits or five
PICTURE = 1e-4  # float32 kernels choose their summing order by batch size
FAR = 2e-3  # at t = 999 predicted x_0 multiplies float32 rounding by 1/√ᾱ = 157
LAST_NOISE = 0.05  # PNDM and DEIS end at ᾱ_0 and keep √(1 - ᾱ_0) = 0.01 of noise that reaches 3 or 4

SHAPE = (1, 4, 4)
KINDS = list(SAMPLERS)
IN_SIGMA = ("heun", "lms")
ALLOWED = [(kind, clip) for kind in KINDS for clip in SAMPLERS[kind].clips]
REFUSED = [(kind, clip) for kind in KINDS for clip in CLIPS if clip not in SAMPLERS[kind].clips]
DETERMINISTIC = [kind for kind in KINDS if kind not in ("ddpm", "dpm_solver_sde")]


def linear(x: Tensor, t: Tensor) -> Tensor:
    """A network that anyone can compute by hand."""
    return 0.3 * x + 0.1 * t.view(-1, 1, 1, 1) / 1000


def wild(x: Tensor, t: Tensor) -> Tensor:
    """A network whose predicted x_0 is far outside [-1, 1]."""
    return -0.5 * x + 0.2


class Perfect:
    """The network that always sees through to one x_0; it remembers what it answered."""

    def __init__(self, schedule: Schedule, x_0: Tensor):
        self.schedule, self.x_0, self.answers = schedule, x_0, []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        abar = self.abar(t).view(-1, 1, 1, 1)
        eps = ((x.double() - abar.sqrt() * self.x_0) / (1 - abar).sqrt()).float()
        self.answers.append(eps)
        return eps

    def abar(self, t: Tensor) -> Tensor:
        """ᾱ at t; between whole steps (Heun, LMS) sigma is interpolated."""
        sigmas = (1 / self.schedule.alphas_cumprod - 1).sqrt()
        below, above = t.double().floor().long(), t.double().ceil().long()
        return 1 / (1 + torch.lerp(sigmas[below], sigmas[above], t.double() - below) ** 2)


def sample(
    network: Callable[[Tensor, Tensor], Tensor], spec: SampleSpec, shape: tuple[int, ...] = SHAPE
) -> list[Denoised]:
    start = Start.of(shape, spec.seed, spec.n)
    return list(p_sample_loop(network, Schedule.linear(), spec, start, start.noise))


def spec_of(kind: str, steps: int = 8, clip: str = "none", **options: Any) -> SampleSpec:
    return SampleSpec(sampler={"kind": kind, "steps": steps}, clip=clip, n=3, **options)


@pytest.fixture
def built(monkeypatch) -> list[Any]:
    """The scheduler objects that a test's samplers build."""
    schedulers = []
    for sampler in SAMPLERS.values():
        monkeypatch.setattr(sampler, "build", kept(sampler.build, schedulers))
    return schedulers


def kept(build: Callable[..., Any], schedulers: list[Any]) -> Callable[..., Any]:
    def keeping(*arguments: Any) -> Any:
        schedulers.append(build(*arguments))
        return schedulers[-1]

    return keeping


def watched(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> list[Any]:
    """The results of every call of a method from now on."""
    original, results = getattr(owner, method), []

    def watching(*arguments: Any, **options: Any) -> Any:
        results.append(original(*arguments, **options))
        return results[-1]

    monkeypatch.setattr(owner, method, watching)
    return results


# Against diffusers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [5, 25])
@pytest.mark.parametrize("clip", ["none", "x0"])
def test_ddpm_equals_diffusers_steps(steps, clip):
    theirs = diffusers.DDPMScheduler(timestep_spacing="leading", clip_sample=clip == "x0")
    x, streams = same_start(4)
    theirs.set_timesteps(steps)
    for t in theirs.timesteps:
        x = theirs.step(linear(x, t.expand(4)), t, x, generator=streams).prev_sample
    ours = sample(linear, SampleSpec(sampler=DDPM(steps=steps), clip=clip, seed=5, n=4))
    assert (ours[-1].x_t - x).abs().max() < STEP


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", ["none", "x0"])
def test_ddim_equals_diffusers_steps(eta, clip):
    theirs = diffusers.DDIMScheduler(timestep_spacing="leading", clip_sample=clip == "x0")
    x, streams = same_start(4)
    theirs.set_timesteps(10)
    for t in theirs.timesteps:
        x = theirs.step(linear(x, t.expand(4)), t, x, eta=eta, generator=streams).prev_sample
    ours = sample(linear, SampleSpec(sampler=DDIM(steps=10, eta=eta), clip=clip, seed=5, n=4))
    assert (ours[-1].x_t - x).abs().max() < STEP


def same_start(n: int) -> tuple[Tensor, list[torch.Generator]]:
    streams = generators(image_seeds(5, n))
    return seeded_noise(SHAPE, streams), streams


def test_all_thousand_steps_of_ddpm_are_walked():
    steps = sample(linear, SampleSpec(sampler=DDPM(steps=1000), n=1))
    assert [step.t for step in steps] == list(range(999, -1, -1))
    assert (steps[-1].step, steps[-1].total) == (1000, 1000)


GOLDEN = {  # sum, mean of the absolute values
    "ddim": (105.09, 6.9304),
    "dpm_solver": (165.03, 10.98),
    "unipc": (161.4, 10.734),
    "pndm": (81.923, 5.358),
    "heun": (132.61, 8.7625),
    "deis": (179.2, 11.947),
    "lms": (194.01, 12.969),
}


@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_golden_loop(kind):
    """From arange to a picture; the figures were computed once and must not move."""
    x_T = torch.arange(16, dtype=torch.float32).view(1, *SHAPE) / 16
    spec = spec_of(kind, 10)
    *_, last = p_sample_loop(linear, Schedule.linear(), spec, Start(x_T, []), x_T)
    total, mean = GOLDEN[kind]
    assert float(last.x_t.sum()) == pytest.approx(total, abs=PRINTED * abs(total))
    assert float(last.x_t.abs().mean()) == pytest.approx(mean, abs=PRINTED * mean)


# Clipping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "clip"), ALLOWED)
def test_every_allowed_pair_runs_on_its_own_scheduler(kind, clip, built):
    steps = sample(linear, spec_of(kind, clip=clip))
    assert type(built[0]).__name__ == SAMPLERS[kind].scheduler
    assert len(steps) == steps[-1].total == steps[-1].step
    assert all(torch.isfinite(step.x_t).all() and torch.isfinite(step.pred_x_0).all() for step in steps)
    assert steps[-1].x_t.shape == steps[-1].pred_x_0.shape == (3, *SHAPE)


@pytest.mark.parametrize(("kind", "clip"), REFUSED)
def test_every_other_pair_is_refused_with_what_is_allowed(kind, clip):
    with pytest.raises(LabError) as caught:
        sample(linear, spec_of(kind, clip=clip))
    assert f"{kind} has no clip {clip!r}" in str(caught.value)
    assert "choose " + " or ".join(SAMPLERS[kind].clips) in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind, clip in ALLOWED if clip == "xt"])
def test_xt_clamps_every_x_t(kind):
    clipped = sample(wild, spec_of(kind, clip="xt"))
    assert all(float(step.x_t.abs().max()) <= 1 for step in clipped)
    assert any(float(step.x_t.abs().max()) > 1 for step in sample(wild, spec_of(kind)))


@pytest.mark.parametrize("kind", [kind for kind, clip in ALLOWED if clip == "x0"])
def test_x0_clamps_what_the_scheduler_uses(kind, monkeypatch):
    scheduler = getattr(diffusers, SAMPLERS[kind].scheduler)
    # these return the x_0 that they used, the others threshold it inside
    tells = kind in ("ddpm", "ddim", "heun")
    used = watched(monkeypatch, scheduler, "step" if tells else "_threshold_sample")
    steps = sample(wild, spec_of(kind, clip="x0"))
    assert max(float(step.pred_x_0.abs().max()) for step in steps) > 2, "there must be something to clamp"
    assert len(used) == len(steps)
    for result in used:
        x_0 = result.pred_original_sample if tells else result
        assert 0.5 < float(x_0.abs().max()) <= 1


@pytest.mark.parametrize("kind", [kind for kind, clip in ALLOWED if clip == "x0"])
def test_clips_change_nothing_where_there_is_nothing_to_clip(kind):
    def gentle(x: Tensor, t: Tensor) -> Tensor:
        return Perfect(Schedule.linear(), torch.full((1, *SHAPE), 0.25))(x, t)

    free, clipped = sample(gentle, spec_of(kind)), sample(gentle, spec_of(kind, clip="x0"))
    assert (free[-1].x_t - clipped[-1].x_t).abs().max() < FAR


# Predicted x_0 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [7, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_network_predicts_x_0_at_every_step(schedule, kind, steps):
    x_0 = torch.linspace(-0.9, 0.9, 16).view(1, *SHAPE)
    taken = sample(Perfect(schedule, x_0), spec_of(kind, steps))
    assert max(float((step.pred_x_0 - x_0).abs().max()) for step in taken) < FAR
    assert (taken[-1].x_t - x_0).abs().max() < (LAST_NOISE if kind in ("pndm", "deis") else FAR)


@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_a_deterministic_sampler_keeps_the_noise_of_a_perfect_network(schedule, kind):
    """At each call, x_t and t belong together: the noise that explains x_t stays the one that we began with."""
    perfect = Perfect(schedule, torch.zeros(1, *SHAPE))
    sample(perfect, spec_of(kind, 12))
    first = perfect.answers[0]
    early = perfect.answers[: len(perfect.answers) * 2 // 3]
    assert max(float((eps - first).abs().max()) for eps in early) < FAR


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "heun", "lms"])
def test_predicted_x_0_is_the_one_that_diffusers_returns(kind, monkeypatch):
    theirs = watched(monkeypatch, getattr(diffusers, SAMPLERS[kind].scheduler), "step")
    ours = sample(linear, spec_of(kind))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.pred_x_0 - b.pred_original_sample).abs().max() < FAR


@pytest.mark.parametrize("kind", IN_SIGMA)
def test_sigma_samplers_start_at_their_own_scale(kind, built):
    x_T = torch.ones(1, *SHAPE)
    seen: list[Tensor] = []

    def looking(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    next(p_sample_loop(looking, Schedule.linear(), spec_of(kind), Start(x_T, []), x_T))
    scale = float(built[0].init_noise_sigma)
    assert scale > 10
    sigma = float(built[0].sigmas[0])
    assert (seen[0] - scale / (sigma**2 + 1) ** 0.5).abs().max() < STEP
    assert (seen[0] - 1).abs().max() < 0.01, "the network sees unit variance"


# Seeds ---------------------------------------------------------------------------------------------------------------


def test_noise_of_image_k_is_the_same_whatever_n():
    five = Start.of(SHAPE, 9, 5).noise
    assert torch.equal(five[:2], Start.of(SHAPE, 9, 2).noise)
    assert torch.equal(five[3:], Start.of(SHAPE, 9, 2, first=3).noise)


@pytest.mark.parametrize("kind", ["ddpm", "dpm_solver_sde", "ddim"])
def test_image_k_is_the_same_picture_whatever_n(tiny, kind, monkeypatch):
    monkeypatch.setattr("lab.engine.is_faster_in_bf16", lambda device: False)
    together, alone = together_and_alone(tiny, kind, exact=False)
    assert (together - alone).abs().max() < PICTURE * max(1.0, float(alone.abs().max()))


@pytest.mark.parametrize("kind", ["ddpm", "dpm_solver_sde", "ddim", "pndm", "heun"])
def test_image_k_is_bit_for_bit_the_same_when_exact(tiny, kind):
    together, alone = together_and_alone(tiny, kind, exact=True)
    assert torch.equal(together, alone)


def together_and_alone(checkpoint: Any, kind: str, exact: bool) -> tuple[Tensor, Tensor]:
    """Image 3 of five sampled together, and sampled alone."""
    network = Denoiser(checkpoint.unet, exact, "cpu")
    spec, pictures = spec_of(kind, 4), []
    for first, n in ((0, 5), (3, 1)):
        start = Start.of(checkpoint.shape, spec.seed, n, first)
        *_, last = p_sample_loop(network, checkpoint.schedule, spec, start, start.noise)
        pictures.append(last.x_t[3 - first])
    return pictures[0], pictures[1]


def test_another_seed_is_another_picture():
    a, b = (sample(linear, spec_of("ddpm", seed=seed))[-1].x_t for seed in (0, 1))
    assert not torch.allclose(a, b)
    assert torch.equal(a, sample(linear, spec_of("ddpm", seed=0))[-1].x_t)


# Guidance and options ------------------------------------------------------------------------------------------------


def by_label(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    return x * 0.1 + labels.view(-1, 1, 1, 1)


def test_guidance_is_the_published_formula():
    x, t, labels = torch.randn(2, *SHAPE), torch.zeros(2), torch.tensor([3.0, 5.0])
    calls = []

    def counting(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(x))
        return by_label(x, t, labels)

    guided = network_of(counting, labels, null=10, guidance=2.0)(x, t)
    assert calls == [4]  # both halves at once
    wanted = 3 * by_label(x, t, labels) - 2 * by_label(x, t, torch.tensor([10.0, 10.0]))
    assert torch.equal(guided, wanted)


def test_no_guidance_is_the_plain_model_in_one_call():
    calls = []

    def counting(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        calls.append(labels)
        return by_label(x, t, labels)

    x, labels = torch.randn(2, *SHAPE), torch.tensor([3.0, 5.0])
    plain = network_of(counting, labels, null=10, guidance=0.0)(x, torch.zeros(2))
    assert torch.equal(plain, by_label(x, torch.zeros(2), labels))
    assert len(calls) == 1


def test_more_steps_than_the_schedule_has_are_refused():
    start = Start.of(SHAPE, 0, 1)
    loop = p_sample_loop(linear, Schedule.linear(T=100), spec_of("ddpm", 101), start, start.noise)
    with pytest.raises(LabError, match="has 100 steps; 101 are too many"):
        next(loop)


def test_a_replaced_scheduler_is_noticed(monkeypatch):
    class Impostor(diffusers.PNDMScheduler):
        """What a known fault of published results does."""

    monkeypatch.setattr(diffusers, "UniPCMultistepScheduler", Impostor)
    with pytest.raises(LabError, match="Impostor instead of UniPCMultistepScheduler"):
        sample(linear, spec_of("unipc"))


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": 10**9},
        {"seed": -1},
        {"seed": 2**31},
        {"clip": "x1"},
        {"guidance": float("nan")},
        {"guidance": -1},
        {"sampler": {"kind": "ddpm", "steps": 0}},
        {"sampler": {"kind": "ddim", "eta": 2}},
        {"sampler": "euler"},
        {"stepz": 3},
    ],
    ids=str,
)
def test_impossible_specs_get_a_sentence(options):
    with pytest.raises(LabError, match=r"[.;]"):
        SampleSpec.of(**options)


def test_samplers_say_which_backdoor_they_follow():
    assert {kind for kind in KINDS if SAMPLERS[kind].backdoor == "sde"} == {"ddpm", "dpm_solver_sde"}
    assert all(SAMPLERS.parse(kind).title.endswith("steps") for kind in KINDS)


def test_a_loop_can_be_left_at_any_step():
    start = Start.of(SHAPE, 0, 1)
    loop = p_sample_loop(linear, Schedule.linear(), spec_of("ddpm"), start, start.noise)
    next(loop)
    loop.close()
    assert torch.is_grad_enabled()
