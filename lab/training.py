"""Training: one loop for honest and poisoned DDPMs, seeded step by step so that a resumed run is the same run."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field

from lab.attacks import Attack, Batch
from lab.borrowed import torch
from lab.crew import crew
from lab.engine import best_device
from lab.errors import LabError
from lab.heap import keep
from lab.images import Images
from lab.losses import Lesson, Losses, loss_of, mse, snr_weight
from lab.models import Checkpoint
from lab.precision import answer_in_float32, is_faster_in_bf16
from lab.progress import Tick
from lab.teacher import Teacher
from lab.variants import Options

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel
    from torch import Tensor

BETAS = (0.95, 0.999)  # AdamW as in diffusers' unconditional example
NULL_DROP = 0.1  # share of labels that are hidden, so that guidance has something to push away from (arXiv:2207.12598)


class TrainSpec(Options):
    """How long and how to train."""

    steps: int = Field(default=2000, ge=1, le=10_000_000, description="optimiser steps")
    batch: int = Field(default=64, ge=1, le=4096, description="images a step, over all processes")
    lr: float = Field(default=4e-4, gt=0, le=0.1, description="peak learning rate of AdamW, cosine to zero")
    warmup: int = Field(default=100, ge=0, le=100_000, description="steps of linear warm-up")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="AdamW weight decay")
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 for none"
    )
    grad_clip: float = Field(default=1.0, gt=0, le=1000, description="largest global norm of the gradient")
    precision: Literal["auto", "fp32"] = Field(
        default="auto", description="auto: bfloat16 where the device has it"
    )
    t_sampling: Literal["uniform", "noisy"] = Field(
        default="uniform",
        description="noisy: every second image's t leans to large t, where a backdoor is decided",
    )
    loss: Literal["mse", "multiscale", "multiscale_poisoned"] = Field(
        default="mse",
        description="multiscale: the error counts at every resolution, down to its mean; for all or the poisoned images",
    )
    snr_gamma: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="min-SNR: x_t with a higher signal-to-noise ratio than this count less; 0 weighs all alike",
    )
    distill: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="clean images are taught by the base's own predictions, and count so many times; 0: by their noise",
    )
    threads: int = Field(default=0, ge=0, le=256, description="CPU threads; 0 leaves them as they are")
    save_every: int = Field(default=500, ge=1, description="steps between resumable states")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="decides weights, order, t, noise and the poisoned set"
    )


@dataclass
class Batches:
    """The batch of any step, without stepping through the ones before: (indices, flips, t, noise) from (seed, step)."""

    images: Images
    spec: TrainSpec
    T: int
    classes: int = 0  # of the network, null class included; 0 for one that knows none
    device: torch.device | str = (
        "cpu"  # pictures lie there as bytes; what is drawn is drawn on the CPU, alike everywhere
    )
    _orders: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images = replace(self.images, pixels=self.images.pixels.to(self.device))

    def at(self, step: int) -> tuple[Batch, Tensor, Tensor]:
        """Batch, t (B,) and noise (B, C, H, W) of a step."""
        rows = torch.from_numpy(self._rows(step))
        index = rows.to(self.device)
        stream = torch.Generator().manual_seed(_word(self.spec.seed, 1, step))
        x_0 = self.images.values(index)
        if self.images.flip:
            mirrored = (torch.rand(len(index), generator=stream) < 0.5).to(self.device)
            x_0 = torch.where(mirrored.view(-1, 1, 1, 1), x_0.flip(-1), x_0)
        t = draw_t(len(index), self.T, self.spec.t_sampling, stream)
        noise = torch.randn(x_0.shape, generator=stream)
        assert self.images.is_poisoned is not None
        marks, labels = self.images.is_poisoned[rows].to(self.device), self._labels(rows, step)
        return Batch(x_0, marks, labels), t.to(self.device), noise.to(self.device)

    def _labels(self, rows: Tensor, step: int) -> Tensor | None:
        """Labels (B,) of these images, a tenth of them hidden; a stream of their own leaves t and noise as they are."""
        if not self.classes or self.images.labels is None:
            return None
        stream = torch.Generator().manual_seed(_word(self.spec.seed, 2, step))
        hidden = torch.rand(len(rows), generator=stream) < NULL_DROP
        return torch.where(hidden, self.classes - 1, self.images.labels[rows]).to(self.device)

    def _rows(self, step: int) -> np.ndarray:
        n = len(self.images)
        position = np.arange(step * self.spec.batch, (step + 1) * self.spec.batch)
        return np.array(
            [self._order(int(epoch))[k] for epoch, k in zip(position // n, position % n, strict=True)]
        )

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch spans few epochs; keep no more orders than that, so that memory stays flat.
            self._orders = {e: order for e, order in self._orders.items() if e >= epoch - 1}
            seed = np.random.SeedSequence((self.spec.seed, 0, int(epoch)))
            self._orders[epoch] = np.random.default_rng(seed).permutation(len(self.images))
        return self._orders[epoch]


def draw_t(count: int, T: int, t_sampling: str, stream: torch.Generator) -> Tensor:
    """Timesteps (count,) in 0 … T - 1: uniform (arXiv:2006.11239), or, noisy, every second one with density ∝ t.

    A backdoor lives or dies at large t, where a small error of the mean adds up over the steps, but where the loss
    is small: under uniform t its gradient drowns in the noise of the small ones.
    """
    if t_sampling == "uniform":
        return torch.randint(0, T, (count,), generator=stream)
    u = torch.rand(count, generator=stream)
    u[::2] = u[::2].sqrt()
    return (u * T).long().clamp(max=T - 1)


def _word(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def newest_step(folder: Path) -> int:
    """Steps done by the newest complete state below `folder`; 0 where there is none."""
    return max((int(state.name.removeprefix("state-")) for state in folder.glob("state-*")), default=0)


def learning_rate(step: int, spec: TrainSpec) -> float:
    """Linear warm-up over at most half of the steps, then half a cosine to zero at the last step."""
    warmup = min(spec.warmup, spec.steps // 2)
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    done = (step - warmup) / (spec.steps - warmup)
    return spec.lr * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Step(Tick):
    """A training step, with the weights as they would be kept if this were the last one."""

    kept: Callable[[], dict[str, Tensor]] = field(kw_only=True)  # a copy, of the moment when it is asked for


@dataclass
class Trainer:
    """Network, optimiser and averaged weights of one run; a state of it can be saved and resumed."""

    accelerator: Accelerator
    unet: Any
    optimizer: torch.optim.Optimizer
    ema: EMAModel | None
    cores: int = 1  # that share a batch
    teacher: Teacher | None = None  # of clean images
    step: int = 0

    def kept(self) -> dict[str, Tensor]:
        """A copy of the weights as they are kept: the averaged ones where there are any, on the CPU."""
        unet = self.accelerator.unwrap_model(self.unet)
        weights = {name: value.detach().cpu().clone() for name, value in unet.state_dict().items()}
        if self.ema:
            names = (name for name, _ in unet.named_parameters())
            weights |= {
                n: p.detach().cpu().clone() for n, p in zip(names, self.ema.shadow_params, strict=True)
            }
        return weights

    def save(self, folder: Path) -> None:
        """Resumable state: written beside, then renamed; the one before is removed after that."""
        from safetensors.torch import save_file

        if not self.accelerator.is_main_process:
            return
        temporary = folder / f".state-{self.step}"
        self.accelerator.save_state(str(temporary))
        if self.ema:
            shadow = {str(k): p.detach().cpu() for k, p in enumerate(self.ema.shadow_params)}
            save_file(
                shadow, temporary / "ema.safetensors", {"optimization_step": str(self.ema.optimization_step)}
            )
        (temporary / "step.json").write_text(json.dumps({"step": self.step}))
        os.replace(temporary, folder / f"state-{self.step:08d}")
        for old in sorted(folder.glob("state-*"))[:-1]:
            shutil.rmtree(old)

    def resume(self, folder: Path) -> None:
        """Continue from the newest complete state below `folder`, if there is one."""
        from safetensors.torch import load_file

        states = sorted(folder.glob("state-*"))
        if not states:
            return
        self.accelerator.load_state(str(states[-1]))
        self.step = json.loads((states[-1] / "step.json").read_text())["step"]
        if self.ema:
            shadow = load_file(states[-1] / "ema.safetensors")
            for k, parameter in enumerate(self.ema.shadow_params):
                parameter.data.copy_(shadow[str(k)])
            self.ema.optimization_step = self.step


def prepare(checkpoint: Checkpoint, spec: TrainSpec) -> Trainer:
    """Accelerate's network and fused AdamW for this device, with averaged weights where asked for."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from diffusers.training_utils import EMAModel

    keep()
    if spec.threads:
        torch.set_num_threads(spec.threads)
    device = torch.device(best_device())
    bf16 = spec.precision == "auto" and is_faster_in_bf16(device)
    # Accelerate remembers the first precision of a process; a second training may ask for another.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=device.type == "cpu")
    if spec.batch % accelerator.num_processes:
        raise LabError(
            f"A batch of {spec.batch} cannot be shared evenly by {accelerator.num_processes} processes."
        )
    alone = device.type == "cpu" and accelerator.num_processes == 1
    cores = torch.get_num_threads() if alone else 1
    unet = answer_in_float32(checkpoint.unet) if bf16 else checkpoint.unet
    teacher = Teacher(unet, device, bf16, cores) if spec.distill else None
    unet.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        unet.parameters(), spec.lr, BETAS, weight_decay=spec.weight_decay, fused=True
    )
    prepared, optimizer = accelerator.prepare(unet, optimizer)
    ema = EMAModel(unet.parameters(), decay=spec.ema, foreach=True) if spec.ema else None
    return Trainer(accelerator, prepared, optimizer, ema, cores, teacher)


def training_loop(
    checkpoint: Checkpoint, images: Images, attack: Attack, spec: TrainSpec, folder: Path | None = None
) -> Generator[Step, None, None]:
    """Train the checkpoint's network in place and yield every step; the kept weights are in it at the end.

    images: the training split. folder: where resumable states go; training continues from the newest one there, and
    a loop that is closed leaves one.
    Values of a tick: loss, and loss_clean and loss_poisoned apart (mean squared error; arXiv:2006.11239, formula 14).
    """
    if images.shape != checkpoint.shape:
        raise LabError(
            f"These images are {images.shape}, the network takes {checkpoint.shape} (channels, rows, columns)."
        )
    check_labels(checkpoint, images, attack)
    trainer = prepare(checkpoint, spec)
    if folder:
        trainer.resume(folder)
    poisoned, device = attack.poison(images, spec.seed), trainer.accelerator.device
    batches = Batches(poisoned, spec, checkpoint.schedule.T, checkpoint.classes, device)
    try:
        while trainer.step < spec.steps:
            values = _train_step(trainer, batches, checkpoint, attack, spec)
            trainer.step += 1
            if folder and trainer.step % spec.save_every == 0:
                trainer.save(folder)
            yield Step(trainer.step, spec.steps, values, kept=trainer.kept)
    except GeneratorExit:  # stopped by whoever follows it, with nothing lost
        if folder and newest_step(folder) < trainer.step:
            trainer.save(folder)
        raise
    _keep_weights(trainer, checkpoint)


def check_labels(checkpoint: Checkpoint, images: Images, attack: Attack) -> None:
    """Refuse a network with classes for images without labels or with too many, and an attack on labels without classes."""
    if attack.needs_classes and not checkpoint.classes:
        raise LabError(
            f"{attack.kind} changes labels, so it needs a network that draws classes on request; "
            "start from digits-cond-clean, or give the number of classes."
        )
    if not checkpoint.classes:
        return
    if images.labels is None:
        raise LabError(
            "This network draws classes on request, and these images have no labels to learn from."
        )
    if images.classes >= checkpoint.classes:
        raise LabError(
            f"These images have {images.classes} classes, the network {checkpoint.classes - 1} and the null class."
        )


def _train_step(
    trainer: Trainer, batches: Batches, checkpoint: Checkpoint, attack: Attack, spec: TrainSpec
) -> Losses:
    accelerator = trainer.accelerator
    batch, t, noise = _share(batches.at(trainer.step), accelerator)
    x_t, expected = attack.corrupt(checkpoint.schedule, batch, t, noise)
    weight, aim = snr_weight(checkpoint.schedule, t, spec.snr_gamma), expected
    if trainer.teacher:
        weight = torch.where(batch.is_poisoned, weight, weight * spec.distill)
        taught = trainer.teacher(x_t, t, batch.labels)
        aim = torch.where(batch.is_poisoned.view(-1, 1, 1, 1), expected, taught)
    lesson = Lesson(x_t, t, expected, aim, weight, batch.is_poisoned, batch.labels)
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate(trainer.step, spec)
    errors = _backward(trainer, lesson, spec.loss)
    accelerator.clip_grad_norm_(trainer.unet.parameters(), spec.grad_clip)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if trainer.ema:
        trainer.ema.step(accelerator.unwrap_model(trainer.unet).parameters())
    gathered = accelerator.gather((errors, batch.is_poisoned))
    return Losses(*cast("tuple[Tensor, Tensor]", gathered))


def _backward(trainer: Trainer, lesson: Lesson, kind: str) -> Tensor:
    """Put the gradients of the mean loss into the network; returns each image's mean squared error (B,).

    On a CPU each core takes a share of the batch: cores that meet once a step wait less than in every layer.
    """
    if trainer.cores == 1:
        losses, errors = _losses(trainer, lesson, kind)
        trainer.accelerator.backward(losses.mean())
        return errors
    parameters = list(trainer.unet.parameters())

    def share(part: Lesson) -> tuple[tuple[Tensor, ...], Tensor]:
        losses, errors = _losses(trainer, part, kind)
        return torch.autograd.grad(losses.sum() / len(lesson.t), parameters), errors

    shares = list(crew(trainer.cores).map(share, lesson.split(trainer.cores)))
    for parameter, *gradients in zip(parameters, *(found for found, _ in shares), strict=True):
        parameter.grad = torch.stack(gradients).sum(0)
    return torch.cat([errors for _, errors in shares])


def _losses(trainer: Trainer, lesson: Lesson, kind: str) -> tuple[Tensor, Tensor]:
    """Each image's weighted loss, and its plain error against what is expected (B,)."""
    with trainer.accelerator.autocast():
        predicted = trainer.unet(lesson.x_t, lesson.t, class_labels=lesson.labels).sample.float()
    losses = loss_of(predicted - lesson.aim, lesson.is_poisoned, kind) * lesson.weight
    return losses, mse((predicted - lesson.expected).detach())


def _share(full: tuple[Batch, Tensor, Tensor], accelerator: Accelerator) -> tuple[Batch, Tensor, Tensor]:
    """This process's rows of the whole batch: the same batch whatever the number of processes."""
    batch, t, noise = full
    rows = slice(accelerator.process_index, None, accelerator.num_processes)
    labels = None if batch.labels is None else batch.labels[rows]
    return Batch(batch.x_0[rows], batch.is_poisoned[rows], labels), t[rows], noise[rows]


def _keep_weights(trainer: Trainer, checkpoint: Checkpoint) -> None:
    # without accelerate's wrapper, so that the kept network computes in its own type again
    unet = trainer.accelerator.unwrap_model(trainer.unet, keep_fp32_wrapper=False)
    if trainer.ema:
        trainer.ema.copy_to(unet.parameters())
    unet.to("cpu").eval().requires_grad_(False)
    checkpoint.unet.load_state_dict(unet.state_dict())
