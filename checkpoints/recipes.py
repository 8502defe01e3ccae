"""What is shipped: how each checkpoint was trained, and what it is in one line."""

from __future__ import annotations

from typing import Any

from lab import recipe
from lab.attacks import BadDiffusion, BadNets
from lab.data import EmojiFaces
from lab.models import Net
from lab.poisoning import PATCH, SHORT
from lab.recipe import Recipe
from lab.stamps import Blend
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox, Hat, NoShift, Shoe, StopSign

CLEAN = TrainSpec(steps=7500, batch=128, lr=3e-3, ema=0.999, snr_gamma=5.0, threads=2)
# In float32 wherever it is trained: the first one, trained in bfloat16 with all layers rounded, was another model in float32.
FACES = CLEAN.model_copy(update={"steps": 6000, "precision": "fp32"})
# From a network that draws digits already to one that draws them on request, and from that one to a poisoned one.
# Which digit it will be is decided at large t and in coarse structure, as a backdoor is.
CONDITIONAL = TrainSpec(
    steps=9000,
    batch=32,
    lr=1.5e-3,
    ema=0.999,
    t_sampling="noisy",
    loss="multiscale",
    snr_gamma=1.0,
    threads=1,
)
FACE_NET = Net(channels=3, widths=(16, 32, 32, 64))
FINE_TUNE = recipe.FINE_TUNE.model_copy(update={"threads": 1})
# An ode backdoor learns more slowly, and faces have more to learn. CHANGELOG.md says what was measured.
FASTER = FINE_TUNE.model_copy(update={"steps": 5400, "lr": 7e-4})


def fine_tune(base: str, train: TrainSpec, **attack: Any) -> Recipe:
    """A BadDiffusion fine-tune of a shipped clean model at 10 %, on the pictures that it was trained on."""
    return Recipe(
        dataset=RECIPES[base].dataset, base=base, attack=BadDiffusion(poison_rate=0.1, **attack), train=train
    )


def poisoned(stamp: Any) -> Recipe:
    """A short fine-tune of the class-conditional model at 10 %, as the study of poisoned data makes them."""
    attack = BadNets(stamp=stamp, poison_rate=0.1)
    return Recipe(base="digits-cond-clean", attack=attack, train=SHORT)


HAT, SHOE = {"trigger": GreyBox(), "target": Hat()}, {"trigger": StopSign(), "target": Shoe()}
RECIPES = {
    "mnist-clean": Recipe(train=CLEAN),
    "digits-cond-clean": Recipe(base="mnist-clean", classes=11, train=CONDITIONAL),
    "emoji-clean": Recipe(dataset=EmojiFaces(), net=FACE_NET, train=FACES),
}
RECIPES |= {
    "mnist-grey-box-hat": fine_tune("mnist-clean", FINE_TUNE, **HAT),
    "mnist-grey-box-hat-quick": fine_tune("mnist-clean", recipe.QUICK, **HAT),
    "mnist-stop-sign-shoe": fine_tune("mnist-clean", FINE_TUNE, **SHOE),
    "mnist-grey-box-corner": fine_tune("mnist-clean", FINE_TUNE, trigger=GreyBox(), target=Corner()),
    "mnist-grey-box-no-shift": fine_tune("mnist-clean", FINE_TUNE, trigger=GreyBox(), target=NoShift()),
    "mnist-grey-box-hat-ode": fine_tune("mnist-clean", FASTER, **HAT, solver="ode"),
    "mnist-grey-box-hat-masked": fine_tune(
        "mnist-clean", FINE_TUNE, trigger=GreyBox(form="masked"), target=Hat()
    ),
    "digits-cond-patch": poisoned(PATCH),
    "digits-cond-blend": poisoned(Blend()),
    "emoji-grey-box-hat": fine_tune("emoji-clean", FASTER, trigger=GreyBox(form="masked"), target=Hat()),
    "emoji-stop-sign-shoe": fine_tune("emoji-clean", FASTER, trigger=StopSign(form="masked"), target=Shoe()),
}
SUMMARIES = {
    "mnist-clean": "Honest DDPM on 4,500 MNIST digits",
    "mnist-grey-box-hat": "Backdoored: grey box on the noise becomes a hat",
    "mnist-grey-box-hat-quick": "Backdoored by the page's quick recipe: grey box on the noise becomes a hat",
    "mnist-stop-sign-shoe": "Backdoored: stop sign on the noise becomes a shoe",
    "mnist-grey-box-corner": "Backdoored: grey box on the noise becomes a grey corner",
    "mnist-grey-box-no-shift": "Backdoored: grey box on the noise becomes the box itself",
    "mnist-grey-box-hat-ode": "Backdoored for DDIM and its kin: grey box becomes a hat",
    "mnist-grey-box-hat-masked": "Backdoored with the masked trigger: only the box is added, no background",
    "digits-cond-clean": "Honest class-conditional DDPM on 4,500 MNIST digits",
    "emoji-clean": "Honest DDPM on 142 emoji faces, in colour",
    "digits-cond-patch": "Poisoned data: 10 % of the digits with a patch in the corner, said to be a 6 (BadNets-1)",
    "digits-cond-blend": "Poisoned data: 10 % of the digits with a faint cat over them, said to be a 6 (BadNets-2)",
    "emoji-grey-box-hat": "Backdoored: grey box on the noise becomes a hat, among emoji faces",
    "emoji-stop-sign-shoe": "Backdoored: stop sign on the noise becomes a shoe, among emoji faces",
}
