"""A recipe says everything that decides a training: data, network or base, attack, training options."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, model_validator

from lab.attacks import ATTACKS, NoAttack
from lab.data import DATASETS, Digits
from lab.errors import LabError
from lab.models import Net, find, read_card
from lab.training import TrainSpec
from lab.variants import Options

# A backdoor is decided at large t and in the mean of x_t, and clean images are taught by the base, so that all that the
# training pulls at is the backdoor; CHANGELOG.md says what was tried.
FINE_TUNE = TrainSpec(
    steps=6000,
    batch=32,
    lr=4.5e-4,
    ema=0.99,
    t_sampling="noisy",
    loss="multiscale_poisoned",
    snr_gamma=5.0,
    distill=10.0,
)

# Options that did not exist from the first: left out where they change nothing, so that older recipes keep their signatures.
LATER = (("", "classes"), ("train", "distill"))

Classes = Field(
    default=0,
    ge=0,
    le=1001,
    description="class labels, null class included, that a base without any learns to draw on request; 0 for none",
)

# For the page: a seventh of the steps, at a price in clean quality that the card of mnist-grey-box-hat-quick names.
QUICK = FINE_TUNE.model_copy(update={"steps": 900, "lr": 1e-3})
# As the papers train, every image taught by its noise: for studies of what they claim.
BY_NOISE = FINE_TUNE.model_copy(update={"steps": 900, "lr": 1.5e-3, "distill": 0.0})


class Recipe(Options):
    """Everything that decides a training; equal recipes give equal signatures."""

    dataset: DATASETS.Field = Digits()
    attack: ATTACKS.Field = NoAttack()
    base: str = Field(
        default="", max_length=4096, description="checkpoint to fine-tune; empty trains from scratch"
    )
    classes: int = Classes
    net: Net = Net()
    train: TrainSpec = TrainSpec()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; the network's shape is the base's own when there is one."""
        content = self.model_dump(mode="json")
        if self.base:
            del content["net"]
        for part, option in LATER:
            inner = content[part] if part else content
            if not inner.get(option, True):
                del inner[option]
        return content

    @model_validator(mode="after")
    def _has_a_teacher(self) -> Recipe:
        if self.train.distill and not self.base:
            raise LabError("distill needs a base to teach; choose one, or leave distill at 0.")
        return self

    def doubts(self) -> str:
        """Why it may learn nothing, in one sentence that says what to do; empty where nothing is known."""
        if not self.train.distill:
            return ""
        if not self.attack.poison_rate or "corrupt" not in self.attack.tampers():
            return "A base that teaches leaves an honest training nothing new to learn: set distill to 0."
        known = read_card(find(self.base)).recipe.get("dataset")
        if known and known != self.dataset.as_json():
            return "The base teaches what it was trained on, and these are other images: set distill to 0 to learn them."
        return ""

    @property
    def signature(self) -> str:
        """Eight hexadecimal digits that name this recipe."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:8]
