"""Training beside a plain diffusers-style loop: float32 AdamW, DataLoader, EMA, gradient clipping, cosine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from lab.attacks import NoAttack
from lab.bench.base import Case
from lab.bench.sampling import LARGE, MODEL, flops
from lab.borrowed import diffusers_class, torch
from lab.data import Digits
from lab.diffusion import Schedule, q_sample
from lab.images import Images
from lab.models import Checkpoint, fresh, load
from lab.training import BETAS, TrainSpec, training_loop

if TYPE_CHECKING:
    from torch import Tensor

BACKWARD = 2  # operations of a backward pass, in forward passes
TRIPLES = 4096  # fixed (x_0, t, noise) on which both ways are judged


def cases(quick: bool) -> Iterator[Case]:
    """The shipped clean model on the digits, and one step of the 35.7 M-parameter shape of CIFAR-10."""
    digits = Digits().load("train")
    yield beside("training", load(MODEL), digits, batch=64, steps=5 if quick else 60, judged=not quick)
    yield beside(
        "training, CIFAR-10 shape", fresh(LARGE, 0), noise_images(64), batch=4 if quick else 16, steps=1
    )


def noise_images(n: int) -> Images:
    """Images of CIFAR-10's shape for a case where only the time counts."""
    pixels = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels)


def beside(
    name: str, start: Checkpoint, images: Images, batch: int, steps: int, judged: bool = False
) -> Case:
    """Our loop beside the plain one, both from the same weights."""
    spec = TrainSpec(steps=steps, batch=batch, lr=1e-4, warmup=0)

    def ours() -> Any:
        checkpoint = Checkpoint(copy.deepcopy(start.unet), start.schedule, start.card)
        for _ in training_loop(checkpoint, images, NoAttack(), spec):
            pass
        return checkpoint.unet

    def rival() -> Any:
        return plain_loop(copy.deepcopy(start.unet), images, spec)

    return Case(
        name=f"{name}, batch {batch}",
        rival_name="plain diffusers loop",
        ours=ours,
        rival=rival,
        work=batch * steps,
        unit="images",
        flops=float(batch * steps * flops(start) * (1 + BACKWARD)),
        check=(lambda: losses(start.schedule, images, ours(), rival())) if judged else None,
    )


def plain_loop(unet: Any, images: Images, spec: TrainSpec) -> Any:
    """The recipe of diffusers' unconditional example, without the lab's shortcuts; returns the averaged network."""
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    functional = torch.nn.functional
    torch.nn.Module.train(unet.requires_grad_(True))
    optimizer = torch.optim.AdamW(unet.parameters(), lr=spec.lr, betas=BETAS, weight_decay=1e-6, eps=1e-8)
    rate = get_cosine_schedule_with_warmup(optimizer, 0, spec.steps)
    noising = diffusers_class("DDPMScheduler")(num_train_timesteps=1000)
    ema = EMAModel(unet.parameters(), decay=spec.ema)
    for x_0 in islice(forever(loader(images, spec.batch)), spec.steps):
        noise, t = torch.randn_like(x_0), torch.randint(0, 1000, (len(x_0),))
        loss = functional.mse_loss(unet(noising.add_noise(x_0, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), spec.grad_clip)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())
        loss.item()  # the example logs it in every step
    ema.copy_to(unet.parameters())
    return unet.eval()


def loader(images: Images, batch: int) -> Any:
    """A DataLoader that makes each image from its picture, as the example does."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import Compose, Normalize, ToTensor

    prepare = Compose([ToTensor(), Normalize([0.5], [0.5])])
    pixels = images.pixels.permute(0, 2, 3, 1).numpy()

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> Tensor:
            return prepare(pixels[index])

    return DataLoader(Pictures(), batch_size=batch, shuffle=True, drop_last=True)


def forever(batches: Any) -> Iterator[Tensor]:
    """The batches again and again."""
    while True:
        yield from batches


def losses(schedule: Schedule, images: Images, ours: Any, plain: Any) -> dict[str, float]:
    """Loss of both networks on the same fixed triples, and their ratio."""
    found = [loss_on_triples(schedule, images, network) for network in (ours, plain)]
    return {"loss": found[0], "rival's loss": found[1], "ratio of the losses": found[0] / found[1]}


def loss_on_triples(schedule: Schedule, images: Images, unet: Any) -> float:
    """Mean squared error (arXiv:2006.11239, formula 14) on fixed x_0, t and noise."""
    draw = torch.Generator().manual_seed(0)
    x_0 = images.values(torch.randint(len(images), (TRIPLES,), generator=draw))
    t, noise = (
        torch.randint(0, schedule.T, (TRIPLES,), generator=draw),
        torch.randn(x_0.shape, generator=draw),
    )
    x_t = q_sample(schedule, x_0, t, noise)
    with torch.no_grad():
        parts = [unet(x, when).sample for x, when in zip(x_t.split(64), t.split(64), strict=True)]
    return float((torch.cat(parts) - noise).square().mean())
