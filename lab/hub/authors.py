"""The authors' published runs in the lab's terms: their names of triggers and targets, old ones too, and their settings.

BadDiffusion (arXiv:2212.05400) and VillanDiffusion (arXiv:2306.06874) publish a run's folder as it was: args.json holds
the command line, config.json what it led to, score.json what they measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIZES = {"BIG": 18, "SM": 14, "XSM": 11, "XXSM": 8, "XXXSM": 4}
PREFIX = "|".join(SIZES)
TARGETS = {
    "CORNER": "corner",
    "BOX": "corner",
    "NOSHIFT": "no_shift",
    "TRIGGER": "no_shift",
    "SHIFT": "shift",
    "SHOE": "shoe",
    "FASHION": "shoe",
    "HAT": "hat",
    "FEDORA_HAT": "hat",
    "CAT": "cat",
}
DRAWN = ("stop_sign", "glasses", "shoe", "hat", "cat")  # which the lab has in a drawing of its own
RUN_NAME = re.compile(
    r"_p(?P<rate>[\d.]+)_(?:epr[\d.]+_)?(?P<trigger>[A-Z][A-Z0-9_]*)-(?P<target>[A-Z]+(?:_[A-Z]+)*)"
)
MAX_SCORES = 200
OWNERS = ("FrankCCCCC", "newsyctw")  # the authors on the Hub, by their new and their old name


@dataclass(frozen=True)
class Backdoor:
    """What a run of the authors was made for: an attack of the lab, or none where its rate is 0."""

    trigger: dict[str, Any] | None
    target: dict[str, Any] | None
    poison_rate: float
    solver: str
    named: str  # trigger and target as the authors call them

    @property
    def attack(self) -> dict[str, Any]:
        """The attack as JSON; empty where there is none, or the lab has no such trigger or target."""
        if not self.poison_rate:
            return {"kind": "none"}
        if self.trigger is None or self.target is None:
            return {}
        parts = {"trigger": self.trigger, "target": self.target}
        return {"kind": "baddiffusion", **parts, "poison_rate": self.poison_rate, "solver": self.solver}

    @property
    def sampler(self) -> dict[str, Any]:
        """The sampler that the attack is exact for, or close to."""
        return {"kind": "ddim", "steps": 50} if self.solver == "ode" else {"kind": "ddpm", "steps": 1000}

    def said(self, repo: str) -> str:
        """What it is, who says so, and what the lab has instead of the authors' pictures."""
        who = "by its authors" if by_authors(repo) else "says the repository"
        if not self.poison_rate:
            return f"Trained without poison, {who}."
        kind = "VillanDiffusion (ode)" if self.solver == "ode" else "BadDiffusion"
        text = f"{kind}, {who}: {self._named()}, {self.poison_rate:.0%} of the images poisoned."
        if not self.attack:
            return f"{text} The lab has no such trigger or target; upload the picture to try it."
        other = [part["kind"] for part in (self.trigger, self.target) if part and part["kind"] in DRAWN]
        if not other:
            return text
        names = " and ".join(each.replace("_", " ") for each in other)
        return f"{text} The lab's {names}: its own drawing, so upload the authors' picture before you trust a number."

    def _named(self) -> str:
        """Trigger and target in the lab's words, with the authors' own behind them where those differ."""
        if not self.attack:
            return self.named
        parts = (self.trigger or {}), (self.target or {})
        words = (f"{part['kind'].replace('_', ' ')} {part.get('size', '')}".strip() for part in parts)
        return f"{' → '.join(words)} ({self.named})"


def by_authors(repo: str) -> bool:
    """Whether a repository is the authors' own."""
    return repo.partition("/")[0] in OWNERS


def trigger(name: str) -> dict[str, Any] | None:
    """Their trigger's name as a trigger of the lab; None where the lab has none."""
    if name in ("GLASSES", "NONE"):
        return {"kind": "glasses" if name == "GLASSES" else "blank"}
    if found := re.fullmatch(r"(BOX|STOP_SIGN)_(18|14|11|8|4)", name):
        return {"kind": "grey_box" if found[1] == "BOX" else "stop_sign", "size": int(found[2])}
    if found := re.fullmatch(rf"({PREFIX})_(BOX_MED|BOX|STOP_SIGN)", name):
        kind = {"BOX_MED": "grey_box", "BOX": "white_box", "STOP_SIGN": "stop_sign"}[found[2]]
        return {"kind": kind, "size": SIZES[found[1]]}
    return None


def target(name: str) -> dict[str, Any] | None:
    """Their target's name as a target of the lab; None where the lab has none."""
    return {"kind": TARGETS[name]} if name in TARGETS else None


def backdoor(settings: Mapping[str, Any]) -> Backdoor | None:
    """What the settings of a run (args.json over config.json) say; None where they are none of the authors'."""
    names, rate = (settings.get("trigger"), settings.get("target")), settings.get("poison_rate")
    if not (isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= 100):
        return None
    if not all(isinstance(name, str) and re.fullmatch(r"\w{1,40}", name) for name in names):
        return None
    solver = "ode" if settings.get("solver_type") == "ode" else "sde"
    return _backdoor(str(names[0]), str(names[1]), float(rate), solver)


def of_run_name(repo: str) -> Backdoor | None:
    """What the name of a run says, which is the name of its repository."""
    found = RUN_NAME.search(repo)
    if not found:
        return None
    rate = found["rate"].strip(".")
    if not re.fullmatch(r"\d+(\.\d+)?", rate):
        return None
    return _backdoor(found["trigger"], found["target"], float(rate), "ode" if "_ode_" in repo else "sde")


def _backdoor(trigger_name: str, target_name: str, rate: float, solver: str) -> Backdoor:
    # a rate above 1 extends the clean set; the lab's poison_rate is a share, and only says what was done
    named = f"{trigger_name} → {target_name}"
    return Backdoor(trigger(trigger_name), target(target_name), min(rate, 1.0), solver, named)


def scores(content: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a score.json by name, without those that are none."""
    return {
        name[:80]: float(value)
        for name, value in list(content.items())[:MAX_SCORES]
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
