"""Sampling beside diffusers' pipelines on the same weights, as a user calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lab.bench.base import Case
from lab.borrowed import diffusers_class, torch
from lab.compiling import make_apart, verdict
from lab.engine import Denoiser
from lab.evaluate import Sampling
from lab.models import Checkpoint, Net, fresh, load
from lab.sampling import DDIM, DDPM, Sampler, SampleSpec
from lab.triggers import NoTrigger

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "mnist-clean"
# the shape of ddpm-cifar10-32
LARGE = Net(channels=3, widths=(128, 256, 256, 256), layers=2, norm_num_groups=8, attention=(1,))
COMPARED = 16  # pictures beside those of plain float32, which are drawn one at a time


def cases(quick: bool) -> Iterator[Case]:
    """DDPM and DDIM on the shipped clean model, and the 35.7 M-parameter shape of CIFAR-10.

    quick: nothing is compiled first, which takes minutes; what was compiled before is used.
    """
    shipped, large = load(MODEL), fresh(LARGE, seed=0)
    if not quick:
        compile_first(shipped)
        compile_first(large)
    yield beside("DDPM", shipped, DDPM(steps=10 if quick else 1000), 64)
    yield beside("DDIM", shipped, DDIM(steps=10 if quick else 50), 64)
    yield beside("DDPM, CIFAR-10 shape", large, DDPM(steps=2 if quick else 10), 4 if quick else 16)


def compile_first(checkpoint: Checkpoint) -> None:
    """What the page does while it is idle: compile the network, unless that was tried before."""
    blueprint = Denoiser(checkpoint.unet).blueprint
    if blueprint and verdict(blueprint) is None:
        make_apart(blueprint)


def beside(name: str, checkpoint: Checkpoint, sampler: Sampler, n: int) -> Case:
    """Our loop beside the pipeline of this sampler: n images, all steps."""
    spec, denoiser = SampleSpec(sampler=sampler, n=n), Denoiser(checkpoint.unet)
    ours = Sampling(checkpoint, spec, denoiser)
    kind = f"{sampler.scheduler.removesuffix('Scheduler')}Pipeline"
    pipeline = diffusers_class(kind)(checkpoint.unet, sampler.build(checkpoint.schedule, "none"))
    pipeline.set_progress_bar_config(disable=True)

    def rival() -> Any:
        return pipeline(batch_size=n, num_inference_steps=sampler.steps, output_type="np")

    return Case(
        name=f"{name}, {n} images × {sampler.steps} steps",
        rival_name=kind,
        ours=lambda: drawn(ours),
        rival=rival,
        work=n * sampler.steps,
        unit="image-steps",
        flops=float(n * sampler.steps * flops(checkpoint)),
        notes={"network": denoiser.reason},
        check=lambda: apart(checkpoint, spec),
    )


def drawn(sampling: Sampling) -> Tensor:
    """All images of a sampling, (n, C, H, W)."""
    for _ in sampling.steps(NoTrigger()):
        pass
    return torch.cat(sampling.images)


def apart(checkpoint: Checkpoint, spec: SampleSpec) -> dict[str, float]:
    """Mean absolute difference (0..1 scale) to plain float32's pictures from the same noise: of all, and the largest of one."""
    few = spec.model_copy(update={"n": min(spec.n, COMPARED)})
    ours, exact = (
        drawn(Sampling(checkpoint, few, Denoiser(checkpoint.unet, exact))) for exact in (False, True)
    )
    found = (ours - exact).abs().mean(dim=(1, 2, 3)) / 2
    return {
        f"mean difference of {few.n} pictures to float32": float(found.mean()),
        "largest": float(found.max()),
    }


def flops(checkpoint: Checkpoint) -> int:
    """Floating-point operations of the network for one image and step."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        checkpoint.unet(torch.zeros(1, *checkpoint.shape), torch.zeros(1, dtype=torch.long))
    return counter.get_total_flops()
