"""Samplers over diffusers' scheduler objects, three ways to clip, and the loop that yields every step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from lab.borrowed import diffusers_class, torch
from lab.crew import alone
from lab.diffusion import Schedule, generators, image_seeds, seeded_noise
from lab.errors import LabError
from lab.variants import Options, Registry, Variant

if TYPE_CHECKING:
    from torch import Tensor

Clip = Literal["none", "x0", "xt"]
Steps = Field(
    default=50,
    ge=1,
    le=1000,
    description="steps of the sampler; fewer steps are spaced over the same schedule",
)
NOISED = "generator"  # how diffusers calls the argument that makes a step random


class Sampler(Variant):
    """A way from noise to a picture."""

    scheduler: ClassVar[str]
    clips: ClassVar[dict[str, dict[str, Any]]] = {"none": {}, "xt": {}}
    options: ClassVar[dict[str, Any]] = {}
    backdoor: ClassVar[str] = "ode"  # which of BadDiffusion's two corrections this sampler follows
    random: ClassVar[bool] = False
    steps: int = Steps

    def build(self, schedule: Schedule, clip: Clip) -> Any:
        """The diffusers scheduler, set to this schedule, clip and number of steps; an impossible clip is refused."""
        if clip not in self.clips:
            allowed = " or ".join(self.clips)
            raise LabError(f"{self.kind} has no clip {clip!r} ({self.why_not(clip)}); choose {allowed}.")
        if self.steps > schedule.T:
            raise LabError(f"This model's schedule has {schedule.T} steps; {self.steps} are too many.")
        chosen = diffusers_class(self.scheduler)
        config = {**schedule.config, "clip_sample": False, **self.options, **self.clips[clip]}
        known = inspect.signature(chosen.__init__).parameters
        scheduler = chosen(**{name: value for name, value in config.items() if name in known})
        # A scheduler that is quietly another one makes all numbers wrong (a known fault of published results).
        if type(scheduler).__name__ != self.scheduler:
            raise LabError(f"diffusers gave {type(scheduler).__name__} instead of {self.scheduler}.")
        scheduler.set_timesteps(self.steps)
        return scheduler

    def why_not(self, clip: str) -> str:
        """Why a clip is impossible here."""
        return "it has no predicted x_0 to clamp" if clip == "x0" else "there is none, x0 and xt"

    def step_options(self) -> dict[str, Any]:
        """Further arguments of the scheduler's step."""
        return {}

    @property
    def title(self) -> str:
        """What a person reads: name and steps."""
        return f"{self.help().split(':')[0]}, {self.steps} steps"


X0_BY_CLIP_SAMPLE: dict[str, dict[str, Any]] = {"none": {}, "x0": {"clip_sample": True}, "xt": {}}
# thresholding with sample_max_value 1 is a plain clamp of predicted x_0 to [-1, 1]
X0_BY_THRESHOLD: dict[str, dict[str, Any]] = {
    "none": {"thresholding": False},
    "x0": {"thresholding": True, "sample_max_value": 1.0},
    "xt": {"thresholding": False},
}


class DDPM(Sampler):
    """Ancestral DDPM: the sampler that BadDiffusion was made for (arXiv:2006.11239, algorithm 2)."""

    kind = "ddpm"
    scheduler = "DDPMScheduler"
    clips = X0_BY_CLIP_SAMPLE
    options: ClassVar[dict[str, Any]] = {"timestep_spacing": "leading"}
    backdoor = "sde"
    random = True
    steps: int = Field(
        default=250, ge=1, le=1000, description="1000 is exact for an sde backdoor; 250 is close to it"
    )


class DDIM(Sampler):
    """DDIM: deterministic at eta 0, ancestral at eta 1 (arXiv:2010.02502)."""

    kind = "ddim"
    scheduler = "DDIMScheduler"
    clips = X0_BY_CLIP_SAMPLE
    options: ClassVar[dict[str, Any]] = {"timestep_spacing": "leading"}
    random = True
    eta: float = Field(default=0.0, ge=0, le=1, description="0 deterministic, 1 as random as DDPM")

    def step_options(self) -> dict[str, Any]:
        """eta of this step."""
        return {"eta": self.eta}


class DPMSolver(Sampler):
    """DPM-Solver++ 2M: second order, 20 steps do (arXiv:2211.01095)."""

    kind = "dpm_solver"
    scheduler = "DPMSolverMultistepScheduler"
    clips = X0_BY_THRESHOLD
    options: ClassVar[dict[str, Any]] = {"algorithm_type": "dpmsolver++", "solver_order": 2}
    steps: int = Field(default=20, ge=2, le=1000, description="steps of the sampler")


class DPMSolverSDE(Sampler):
    """DPM-Solver++ 2M SDE: the random form of DPM-Solver++ (arXiv:2211.01095)."""

    kind = "dpm_solver_sde"
    scheduler = "DPMSolverMultistepScheduler"
    clips = X0_BY_THRESHOLD
    options: ClassVar[dict[str, Any]] = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    backdoor = "sde"
    random = True
    steps: int = Field(default=50, ge=2, le=1000, description="steps of the sampler")


class UniPC(Sampler):
    """UniPC: predictor and corrector in one (arXiv:2302.04867)."""

    kind = "unipc"
    scheduler = "UniPCMultistepScheduler"
    clips = X0_BY_THRESHOLD
    steps: int = Field(default=20, ge=2, le=1000, description="steps of the sampler")


class PNDM(Sampler):
    """PNDM: linear multistep on the noise (arXiv:2202.09778)."""

    kind = "pndm"
    scheduler = "PNDMScheduler"
    steps: int = Field(
        default=50, ge=4, le=1000, description="steps of the sampler; the first three cost four network calls"
    )


class Heun(Sampler):
    """Heun: second order in sigma, two network calls a step (arXiv:2206.00364)."""

    kind = "heun"
    scheduler = "HeunDiscreteScheduler"
    clips: ClassVar[dict[str, dict[str, Any]]] = {"none": {"clip_sample": False}, "x0": {"clip_sample": True}}

    def why_not(self, clip: str) -> str:
        """Its states are x_t divided by √ᾱ_t."""
        return "its states are not on the [-1, 1] scale of x_t"


class DEIS(Sampler):
    """DEIS: exponential integrator, multistep (arXiv:2204.13902)."""

    kind = "deis"
    scheduler = "DEISMultistepScheduler"
    clips = X0_BY_THRESHOLD
    steps: int = Field(default=20, ge=2, le=1000, description="steps of the sampler")


class LMS(Sampler):
    """LMS: linear multistep in sigma (k-diffusion; Karras et al., arXiv:2206.00364)."""

    kind = "lms"
    scheduler = "LMSDiscreteScheduler"
    clips: ClassVar[dict[str, dict[str, Any]]] = {"none": {}}

    def why_not(self, clip: str) -> str:
        """It extrapolates over past derivatives in sigma space."""
        return "it extrapolates over past derivatives, and its states are not on the [-1, 1] scale of x_t"


SAMPLERS: Registry[Sampler] = Registry(
    "sampler", DDPM, DDIM, DPMSolver, DPMSolverSDE, UniPC, PNDM, Heun, DEIS, LMS
)

CLIPS = {
    "none": "nothing is clamped",
    "x0": "the predicted x_0 is clamped to [-1, 1] in every step (diffusers' clip_sample)",
    "xt": "x_{t-1} is clamped to [-1, 1] after every step, noise included (the paper's algorithm)",
}


class SampleSpec(Options):
    """How pictures are sampled: everything that decides them but the weights and the noise."""

    sampler: SAMPLERS.Field = DDPM()
    clip: Clip = Field(
        default="none", description="inference-time clipping: none, x0 (predicted x_0) or xt (every x_t)"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides the noise of every image")
    n: int = Field(default=16, ge=1, le=100_000, description="number of images")
    guidance: float = Field(
        default=0.0, ge=0, le=50, description="w of (1 + w)·eps_class - w·eps_null; 0 is the plain model"
    )


@dataclass(frozen=True)
class Denoised:
    """One step of sampling: t, x_t after the step and the x_0 that the network now predicts, (B, C, H, W)."""

    step: int
    total: int
    t: float
    x_t: Tensor
    estimate: Callable[[], Tensor]  # of x_0: few steps are looked at

    @cached_property
    def pred_x_0(self) -> Tensor:
        """The network's own estimate, before any clipping."""
        return self.estimate()


@dataclass
class Start:
    """Noise to start from, one random stream per image: streams go on to give the noise of every step."""

    noise: Tensor
    streams: list[torch.Generator]

    @classmethod
    def of(cls, shape: Sequence[int], seed: int, n: int, first: int = 0) -> Start:
        """Images first … first + n - 1 of a seed: the same noise bit for bit whatever n is."""
        streams = generators(image_seeds(seed, n, first))
        return cls(seeded_noise(shape, streams), streams)

    @classmethod
    def joined(cls, starts: Sequence[Start]) -> Start:
        """Several starts as one batch; each image keeps its own stream."""
        noise = torch.cat([start.noise for start in starts])
        return cls(noise, [stream for start in starts for stream in start.streams])


Network: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def p_sample_loop(
    network: Network, schedule: Schedule, spec: SampleSpec, start: Start, x_T: Tensor
) -> Iterator[Denoised]:
    """Sample from x_T and yield every step (arXiv:2006.11239, algorithm 2, and its successors).

    network: eps(x_t, t) with t (B,); x_T: (B, C, H, W) of unit scale (multiplied here by init_noise_sigma);
    start: the random streams of these images.
    """
    scheduler = spec.sampler.build(schedule, spec.clip)
    stream = {NOISED: start.streams} if spec.sampler.random else {}
    x = x_T * scheduler.init_noise_sigma
    total = len(scheduler.timesteps)
    for step, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        eps = network(scaled, t.expand(len(x)).to(x.device))
        estimate = implied_x_0(scheduler, x, scaled, eps, t)
        with alone():
            x = scheduler.step(eps, t, x, **stream, **spec.sampler.step_options()).prev_sample
            if spec.clip == "xt":
                x = x.clamp(-1, 1)
        yield Denoised(step + 1, total, float(t), x, estimate)


def implied_x_0(scheduler: Any, x: Tensor, scaled: Tensor, eps: Tensor, t: Tensor) -> Callable[[], Tensor]:
    """What computes the x_0 of a noise estimate, for schedulers that walk in x_t and for those that walk in sigma.

    `scaled` is x_t on the unit-variance scale in both: x_t = √ᾱ x_0 + √(1 - ᾱ) eps; in sigma space √ᾱ = 1/√(1 + σ²).
    """
    if hasattr(scheduler, "step_index") and scheduler.init_noise_sigma != 1:  # it walks in sigma
        sigma = scheduler.sigmas[scheduler.step_index]  # which the step moves on
        return lambda: x - sigma.to(x) * eps
    abar = scheduler.alphas_cumprod[int(t)]
    return lambda: (scaled - (1 - abar).sqrt().to(x) * eps) / abar.sqrt().to(x)


def network_of(denoiser: Callable[..., Tensor], labels: Tensor, null: int, guidance: float) -> Network:
    """eps(x_t, t) of a class-conditional network for labels (B,), with classifier-free guidance.

    guidance w gives (1 + w)·eps(x, t, label) - w·eps(x, t, null); 0 is the plain model (arXiv:2207.12598).
    """
    both = torch.cat([labels, torch.full_like(labels, null)])

    def plain(x: Tensor, t: Tensor) -> Tensor:
        """eps(x_t, t) with the labels in it."""
        return denoiser(x, t, labels)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        """The same with guidance, both halves in one call."""
        known, null_eps = denoiser(x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        with alone():
            return (1 + guidance) * known - guidance * null_eps

    return guided if guidance else plain
