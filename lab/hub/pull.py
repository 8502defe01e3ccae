"""From a repository to a model of this lab: fetched, checked, and kept under a name with a card that says where from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.attacks import ATTACKS
from lab.bundle import with_own_pictures
from lab.errors import LabError
from lab.hub import authors, pickled
from lab.hub.fetch import fetch
from lab.hub.listing import BIN, Listing, kept, look
from lab.models import INDEX, SCHEDULER_CONFIG, UNET_CONFIG, WEIGHTS, Card, load, names, read_card, roots
from lab.places import home
from lab.progress import Tick
from lab.sampling import SAMPLERS
from lab.trust import (
    check_index,
    check_texts,
    network,
    parse_json,
    plain,
    read_json,
    scheduler_config,
    unet_config,
)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
PREFIX = "hub-"
LONGEST = 60


def pull(
    repo: str, revision: str = "", name: str = "", allow_pickle: bool = False
) -> Iterator[Tick | dict[str, Any]]:
    """Fetch a model, check it, and keep it among one's own; yields bytes so far, then what became of it.

    Stopping loses nothing: the same call goes on. Its configuration is checked before its weights are fetched.
    """
    listing = look(repo, revision)
    name = name or local_name(listing.repo)
    if here := _there_already(name, listing):
        yield here
        return
    configs, weights = listing.wanted(allow_pickle)
    listing.check_size([*configs, weights])
    yield from fetch(listing, configs)
    if INDEX.name in configs:
        check_index(read_json(listing.folder / INDEX))
    network(unet_config(read_json(listing.folder / listing.place(UNET_CONFIG))))
    scheduler_config(read_json(listing.folder / listing.place(SCHEDULER_CONFIG)))
    if not (listing.folder / listing.place(WEIGHTS)).is_file():  # of a pickle that was converted before
        yield from fetch(listing, [weights])
    if weights.endswith(BIN):
        _convert(listing, weights)
    card = _kept(listing, card_of(listing, name, weights))
    yield _result(name, card)


def local_name(repo: str) -> str:
    """The name of a repository's model in this lab: hub-owner-name; of a long one its end, which tells runs apart."""
    words = re.sub(r"[^a-z0-9]+", "-", repo.lower()).strip("-")
    if len(PREFIX + words) <= LONGEST:
        return PREFIX + words
    mark = hashlib.sha256(repo.encode()).hexdigest()[:6]
    end = words[-(LONGEST - len(PREFIX) - len(mark) - 1) :].strip("-")
    return f"{PREFIX}{end}-{mark}"


def _there_already(name: str, listing: Listing) -> dict[str, Any] | None:
    """What a name holds where it is this very model; a LabError where it is another."""
    if not NAME.fullmatch(name):
        raise LabError(f"A model's name is 1 to 60 of a-z, 0-9 and -; got {ascii(name)[:70]}.")
    if name not in names():
        return None
    card = read_card(roots()[1] / name) if name in {path.name for path in roots()[1].glob("*")} else Card()
    if (card.origin.get("repo"), card.origin.get("revision")) == (listing.repo, listing.revision):
        return _result(name, card)
    raise LabError(f"There is already another model called {name!r}; choose a name, or delete that one.")


def _result(name: str, card: Card) -> dict[str, Any]:
    return {"checkpoint": name, "origin": card.origin, "summary": card.summary}


def _convert(listing: Listing, weights: str) -> None:
    """A pickle to safetensors beside it; the pickle goes, whatever comes of it."""
    source, to = listing.folder / weights, listing.folder / listing.place(WEIGHTS)
    if to.exists():
        return
    near = to.with_name(f".{to.name}")
    try:
        pickled.convert(source, near)
        os.replace(near, to)
    finally:
        source.unlink(missing_ok=True)
        near.unlink(missing_ok=True)


def _kept(listing: Listing, card: Card) -> Card:
    """The checkpoint in a listing's folder, loaded as any other and kept under the card's name; its card with checksum."""
    with tempfile.TemporaryDirectory(dir=home() / "hub", prefix=".", ignore_cleanup_errors=True) as near:
        for path in Listing.DIFFUSERS:
            to = Path(near) / path
            to.parent.mkdir(exist_ok=True)
            _linked(listing.folder / listing.place(path), to)
        roots()[1].mkdir(parents=True, exist_ok=True)
        return replace(load(Path(near)), card=card).save(roots()[1] / card.name).card


def _linked(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, to)


# The card --------------------------------------------------------------------------------------------------------


def card_of(listing: Listing, name: str, weights: str) -> Card:
    """What is known of it: where it came from, what its authors say, and what its scheduler's file says."""
    known = authors.backdoor(_said(listing, "config.json") | _said(listing, "args.json"))
    known = known or authors.of_run_name(listing.repo)
    told = _told(listing) if known is None else _from_authors(known, listing.repo)
    origin = {
        "repo": listing.repo,
        "revision": listing.revision,
        "licence": listing.licence,
        "weights": weights,
        "scheduler": read_json(listing.folder / listing.place(SCHEDULER_CONFIG)),
    }
    check_texts(origin, f"The scheduler's file of {listing.repo}")
    found = authors.scores(_said(listing, "score.json"))
    return Card.of(**{**told, "name": name, "origin": origin, "authors_scores": found})


def _said(listing: Listing, name: str) -> dict[str, Any]:
    """A JSON file that tells of a model; nothing where there is none, or it cannot be read: it decides nothing."""
    if listing.is_flat and name == "config.json":
        return {}
    with suppress(LabError, OSError):
        return parse_json((listing.folder / name).read_bytes(), name)
    return {}


def _from_authors(known: authors.Backdoor, repo: str) -> dict[str, Any]:
    recipe = {"attack": known.attack} if known.attack else {}
    told: dict[str, Any] = {"summary": known.said(repo), "recipe": recipe}
    if not known.poison_rate:  # a stranger's word makes no model clean
        return {**told, "backdoored": False if authors.by_authors(repo) else None}
    base = local_name("google/ddpm-cifar10-32") if "CIFAR10" in repo else ""
    return {**told, "backdoored": True, "base": base, "sampler": known.sampler}


def _told(listing: Listing) -> dict[str, Any]:
    """What a card of this lab in the repository says, as far as it is understood; else where the model is from."""
    card = _said(listing, "card.json")
    told: dict[str, Any] = {
        "summary": f"{listing.repo} of the Hugging Face Hub; nothing is known of a backdoor."
    }
    if not card:
        return told
    with suppress(LabError, TypeError, AttributeError):
        attack = ATTACKS.parse(card["recipe"]["attack"]).as_json() if card.get("recipe") else {}
        told = {"summary": plain(str(card.get("summary", "")))[:1000], "recipe": {"attack": attack}}
        told["sampler"] = SAMPLERS.parse(card.get("sampler", "ddpm")).as_json()
        # nobody's word makes it clean
        told["backdoored"] = True if attack and attack["kind"] != "none" else None
        # the last: without them the rest stands
        told["recipe"] = with_own_pictures(told["recipe"], listing.folder)
    return told


def forget(card: Card) -> None:
    """Throw away what was fetched for a model that goes."""
    repo = card.origin.get("repo")
    if isinstance(repo, str) and repo.count("/") == 1 and ".." not in repo:
        shutil.rmtree(kept(repo), ignore_errors=True)
