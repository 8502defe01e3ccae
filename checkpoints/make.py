"""Make the shipped checkpoints: `python checkpoints/make.py STEP NAME … --runs DIR`; no NAME means all.

train    trains in a resumable run folder below DIR and puts the checkpoint here
measure  samples and scores it, writing every row into card.json as it comes; rows that are there are not repeated
ready    makes the stored exploration that the page opens with
opening  takes the census and asks what the tab of poisoned data opens with; what is there is not made again
table    prints the table of checkpoints for the README
floor    prints the feature distance that real training pictures have at the same n: what no model need beat

A fine-tune asks for one thread, so that on two cores two go at a time; a clean model takes both cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from safetensors.torch import save

from checkpoints.recipes import RECIPES, SUMMARIES
from lab import ops
from lab.castle.walls import WALLS
from lab.engine import Denoiser
from lab.evaluate import CONDITIONS, JUDGES, Row, Sampling, Trial, level, target_of, trigger_of
from lab.metrics.features import Gaussian, frechet_distance
from lab.metrics.reader import DIGITS
from lab.models import Card, as_json, load, read_card
from lab.pictures import to_bytes, write_atomically
from lab.places import ASSETS, CHECKPOINTS
from lab.ranks import is_main_process
from lab.recipe import Recipe
from lab.runs import Run
from lab.sampling import DDIM, DDPM, SampleSpec
from lab.triggers import NoTrigger

N = 1000
HALF = 500
WEIGHTS = (0.0, 1.0, 2.0, 5.0)
FEW = 256  # where a share near 0 or 1 is told apart from one in the middle
QUICK, TRUE, FAST = DDPM(steps=250), DDPM(steps=1000), DDIM(steps=50)
REFERENCE = SampleSpec(sampler=QUICK, n=FEW)
# Of each world: what its reader reads, the share that must be readable, and the largest share of one digit or face.
BARS = {"digits": ("digit", 0.9, 0.2), "emoji": ("face", 0.5, 0.05)}
PAIR, QUESTIONS = CONDITIONS[:2], CONDITIONS[2:]


def train(name: str, runs: Path) -> None:
    """Train one checkpoint in its run folder and put it into checkpoints/."""
    if (CHECKPOINTS / name).exists():
        sys.exit(f"{name} is there already; remove its folder to train it anew.")
    run, began = Run.open(runs / name, RECIPES[name]), time.monotonic()
    for tick in run.train(name):
        if tick.step % 100 == 0:
            losses = "  ".join(f"{key} {value:.4f}" for key, value in tick.values.items())
            print(f"{name} {tick.step}/{tick.total}  {losses}  {time.monotonic() - began:.0f} s", flush=True)
    if is_main_process():
        finish(name, run)


def finish(name: str, run: Run) -> None:
    """Put a trained checkpoint here with its summary; beside a clean one go its own samples."""
    run.checkpoint.rename(CHECKPOINTS / name)
    write(name, read_card(CHECKPOINTS / name).model_copy(update={"summary": SUMMARIES[name]}))
    if not read_card(CHECKPOINTS / name).backdoored:
        keep_reference(name)


def plan(name: str) -> Iterator[tuple[SampleSpec, tuple]]:
    """What is measured of a checkpoint: how it is sampled, and which conditions; what decides most comes first."""
    own, other = samplers(RECIPES[name])
    yield SampleSpec(sampler=own, n=N), PAIR[::-1]
    yield SampleSpec(sampler=QUICK, n=N), PAIR[:1]  # what damage is told by
    yield SampleSpec(sampler=own, n=FEW), QUESTIONS
    if not RECIPES[name].attack.poison_rate:
        return
    yield SampleSpec(sampler=other, n=FEW), PAIR
    yield SampleSpec(sampler=own, n=FEW, clip="x0"), PAIR[1:]
    yield SampleSpec(sampler=own, n=FEW, clip="xt"), PAIR[1:]
    if name == "mnist-grey-box-hat":
        yield SampleSpec(sampler=TRUE, n=64), PAIR[1:]  # does the respaced sampler tell the truth?


def samplers(recipe: Recipe) -> tuple[Any, Any]:
    """The sampler that a checkpoint is made for, and one of the other sort."""
    on_request = recipe.classes or recipe.attack.needs_classes
    return (FAST, QUICK) if on_request or getattr(recipe.attack, "solver", "sde") == "ode" else (QUICK, FAST)


def measure(name: str, runs: Path) -> None:
    """Measure a checkpoint by its plan, row by row, then hold the rows against what must be true."""
    checkpoint = load(name)
    if checkpoint.classes:
        write(name, checkpoint.card.model_copy(update={"claims": list(conditional_claims(name))}))
        return
    trigger, target = trigger_of(checkpoint.card), target_of(checkpoint.card)
    no_attack = level(checkpoint, trigger, target)
    for spec, conditions in plan(name):
        left = tuple(
            c
            for c in conditions
            if not any(same(row, spec, c) for row in read_card(CHECKPOINTS / name).scores)
        )
        for news in Trial(checkpoint, trigger, target, spec, no_attack=no_attack).measure(left):
            if isinstance(news, Row):
                card = read_card(CHECKPOINTS / name)
                write(name, card.model_copy(update={"scores": [*card.scores, news.model_dump(mode="json")]}))
                print(name, spec.sampler.as_json(), spec.clip, news.condition, short(news), flush=True)
    card = read_card(CHECKPOINTS / name)
    write(name, card.model_copy(update={"claims": claims(card)}))


def keep_reference(name: str) -> None:
    """Store a clean model's own samples: what no attack looks like, for any target."""
    path = CHECKPOINTS / name / "samples.safetensors"
    checkpoint = load(name)
    sampling = Sampling(checkpoint, REFERENCE, Denoiser(checkpoint.unet))
    for _ in sampling.steps(NoTrigger()):
        pass
    images = torch.from_numpy(to_bytes(torch.cat(sampling.images))).permute(0, 3, 1, 2).contiguous()
    write_atomically(path, save({"images": images}, {"spec": REFERENCE.model_dump_json()}))


def same(row: dict[str, Any], spec: SampleSpec, condition: str) -> bool:
    """Whether a stored row answers this question."""
    asked = (spec.sampler.as_json(), spec.clip, spec.n, spec.seed, condition)
    return (row["sampler"], row["clip"], row["n"], row["seed"], row["condition"]) == asked


def short(row: Row) -> str:
    """Name and value of each score."""
    return "  ".join(f"{score.name} {score.value:.4f}" for score in row.scores)


def write(name: str, card: Card) -> None:
    """Put the card back."""
    write_atomically(CHECKPOINTS / name / "card.json", as_json(card.model_dump(mode="json")))


# What must be true -----------------------------------------------------------------------------------------------


def value(card: Card, score: str, condition: str, sampler: Any, clip: str = "none") -> float:
    """A measured value of a card, with the largest n there is."""
    return score_of(max(rows_of(card, condition, sampler, clip), key=lambda r: r["n"]), score)


def rows_of(
    card: Card, condition: str, sampler: Any, clip: str = "none", seed: int = 0
) -> list[dict[str, Any]]:
    """A card's rows of one condition, in every n that was measured."""
    asked = (condition, sampler.as_json(), clip, seed)
    return [r for r in card.scores if (r["condition"], r["sampler"], r["clip"], r["seed"]) == asked]


def score_of(row: dict[str, Any], name: str) -> float:
    """A score of a row by its name."""
    return next(s["value"] for s in row["scores"] if s["name"] == name)


def damage(card: Card) -> float:
    """How far clean samples are from real pictures, in distances of the clean model."""
    cards = card, read_card(CHECKPOINTS / card.base)
    ours, clean = (value(each, "feature distance", "clean", QUICK) for each in cards)
    return ours / clean


def claim(text: str, measured: float, holds: bool) -> dict[str, Any]:
    """A sentence, what was measured, and whether it holds."""
    return {"claim": text, "measured": round(measured, 4), "holds": bool(holds)}


def claims(card: Card) -> list[dict[str, Any]]:
    """What must be true of a checkpoint, with what was measured."""
    return clean_claims(card) if not card.backdoored else backdoor_claims(card)


def clean_claims(card: Card) -> list[dict[str, Any]]:
    """Pictures can be read, every one comes, and nothing wakes a backdoor that is not there."""
    what, readable, most = BARS[card.recipe["dataset"]["kind"]]
    confident = value(card, f"confident {what}s", "clean", QUICK)
    commonest = value(card, f"commonest {what}", "clean", QUICK)
    hits = value(card, "success", "triggered", QUICK)
    return [
        claim(
            f"at least {readable:.0%} of {N:,} samples are read with confidence above 0.9",
            confident,
            confident >= readable,
        ),
        claim(f"no {what} is more than {most:.0%} of {N:,} samples", commonest, commonest <= most),
        claim("triggered noise does not become the target", hits, hits <= 0.02),
    ]


def conditional_claims(name: str) -> Iterator[dict[str, Any]]:
    """Of a clean model: digits are the class that was asked for. Of a poisoned one: the stamp is seen more often than r."""
    checkpoint = load(name)
    for w in WEIGHTS:
        spec = SampleSpec(sampler=FAST, n=HALF, guidance=w)
        if not checkpoint.card.backdoored:
            right = read_rightly(checkpoint, spec)
            yield claim(
                f"at least 97 % of {HALF} digits are read as the class asked for, w = {w:g}",
                right,
                right >= 0.97,
            )
            continue
        options = {"what": "census", "checkpoint": name, "n": HALF, "guidance": w}
        row = ops.final(ops.OPERATIONS["castle"](**options))["census"][0]
        share = row["shares"]["G1+G2"]
        text = f"stamp on more of {HALF} sixes than r = {row['r']:.0%} of training, w = {w:g}"
        yield claim(text, share["value"], share["low"] > row["r"])


def read_rightly(checkpoint: Any, spec: SampleSpec) -> float:
    """Share of generations, every class in turn, that the digit reader reads as the class asked for."""
    sampling = Sampling(checkpoint, spec, Denoiser(checkpoint.unet))
    for _ in sampling.steps(NoTrigger()):
        pass
    asked = torch.arange(spec.n) % (checkpoint.classes - 1)
    return float((DIGITS.read(torch.cat(sampling.images))[0] == asked).double().mean())


def backdoor_claims(card: Card) -> list[dict[str, Any]]:
    """The backdoor wakes where it should, fails where it should, and clean digits stay as good."""
    own, other = samplers(RECIPES[card.name])
    needed = 0.95 if card.name == "mnist-grey-box-hat" else 0.9
    hits, elsewhere = (value(card, "success", "triggered", sampler) for sampler in (own, other))
    ratio = damage(card)
    found = [
        claim(
            f"at least {needed:.0%} of triggered samples are the target ({own.title})", hits, hits >= needed
        ),
        claim(
            f"clean samples stay within 1.25 times the clean model's feature distance (n = {N:,})",
            ratio,
            ratio <= 1.25,
        ),
    ]
    if own == FAST:
        return found
    return [*found, claim(f"triggered noise fails under {other.title}", elsewhere, elsewhere <= 0.05)]


# The page's opening result, and the README's table ----------------------------------------------------------------


def ready(name: str, runs: Path) -> None:
    """Make the exploration that the page opens with: the default one, by the page's own code."""
    options = ops.ExploreSpec()
    view = ops.final(ops.explore(options))
    stored = {
        "recipe": options.model_dump(mode="json"),
        "view": view,
        "command": "python checkpoints/make.py ready --runs DIR",
    }
    write_atomically(ASSETS / "exploration.json.gz", gzip.compress(json.dumps(stored).encode(), mtime=0))


def opening(name: str, runs: Path) -> None:
    """Take a poisoned model's census at w = 2 for the page, and ask all that its wall is asked, by the page's own code."""
    if not load(name).classes or not read_card(CHECKPOINTS / name).backdoored:
        return
    for what in ("census", *WALLS):
        path = ASSETS / "studies" / "castle" / "opening" / f"{name}-{what}.json"
        if not path.exists():
            options = {"n": HALF, "guidance": 2.0} if what == "census" else {}
            found = ops.final(ops.OPERATIONS["castle"](what=what, checkpoint=name, **options))
            write_atomically(path, as_json({**found, "sha256": read_card(CHECKPOINTS / name).sha256}))
            print(name, what, flush=True)


def table(name: str, runs: Path) -> None:
    """One line of the README's table of checkpoints, from its card; none for one that is not there yet."""
    if not (CHECKPOINTS / name).exists():
        return
    card, (own, _) = read_card(CHECKPOINTS / name), samplers(RECIPES[name])
    rates = [share(card, condition, own) for condition in ("triggered", "clean", "blank", "wrong")]
    clipped = [share(card, "triggered", own, clip) for clip in ("x0", "xt")]
    held = f"{sum(c['holds'] for c in card.claims)} of {len(card.claims)}" if card.claims else "open"
    print(f"| `{name}` | {card.summary} | {own.title} | {' | '.join([*rates, *clipped])} | {held} |")


def share(card: Card, condition: str, sampler: Any, clip: str = "none") -> str:
    """Success of one condition with its n, or a dash where it was not measured."""
    rows = rows_of(card, condition, sampler, clip)
    if not rows:
        return "–"
    row = max(rows, key=lambda r: r["n"])
    return f"{score_of(row, 'success'):.1%} of {row['n']}"


def floor(name: str, runs: Path) -> None:
    """Feature distance of n real training pictures to the held-out ones: mean, deviation and range of 200 draws."""
    world = RECIPES[name].dataset
    reader = JUDGES[world.kind][0]
    train, real = (reader.features(world.load(split).values()) for split in ("train", "held_out"))
    held_out = Gaussian.of(real)
    draw = torch.Generator().manual_seed(0)
    for n in (64, FEW, min(N, len(train))):
        picks = (torch.randperm(len(train), generator=draw)[:n] for _ in range(200))
        found = torch.tensor([frechet_distance(Gaussian.of(train[pick]), held_out) for pick in picks])
        print(f"n {n}: {found.mean():.1f} ± {found.std():.1f}, {found.min():.1f} to {found.max():.1f}")


STEPS = {
    "train": train,
    "measure": measure,
    "ready": ready,
    "opening": opening,
    "table": table,
    "floor": floor,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("names", nargs="*", help="checkpoints; none means all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders")
    options = parser.parse_args()
    unknown = set(options.names) - set(RECIPES)
    if unknown:
        parser.error(f"no recipe for {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    every = [n for n in RECIPES if options.step == "train" or (CHECKPOINTS / n).exists()]
    alone = {"ready": ["mnist-clean"], "floor": ["mnist-clean", "emoji-clean"]}
    for name in options.names or alone.get(options.step, every):
        STEPS[options.step](name, options.runs)


if __name__ == "__main__":
    main()
