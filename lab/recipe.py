"""A recipe says everything that decides a training: data, network or base, attack, training options."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field

from lab.attacks import ATTACKS, NoAttack
from lab.data import DATASETS, Digits
from lab.models import Net
from lab.training import TrainSpec
from lab.variants import Options

# A backdoor is decided at large t and in the mean of x_t; CHANGELOG.md says what was tried.
FINE_TUNE = TrainSpec(
    steps=2400,
    batch=32,
    lr=8e-4,
    ema=0.998,
    t_sampling="noisy",
    loss="multiscale_poisoned",
    snr_gamma=5.0,
)


# For the page: a tenth of the time, at a price in clean quality that the card of mnist-grey-box-hat-quick names.
QUICK = FINE_TUNE.model_copy(update={"steps": 900, "lr": 1.5e-3, "ema": 0.99})


class Recipe(Options):
    """Everything that decides a training; equal recipes give equal signatures."""

    dataset: DATASETS.Field = Digits()
    attack: ATTACKS.Field = NoAttack()
    base: str = Field(
        default="", max_length=4096, description="checkpoint to fine-tune; empty trains from scratch"
    )
    net: Net = Net()
    train: TrainSpec = TrainSpec()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; the network's shape is the base's own when there is one."""
        content = self.model_dump(mode="json")
        if self.base:
            del content["net"]
        return content

    @property
    def signature(self) -> str:
        """Eight hexadecimal digits that name this recipe."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:8]
