"""The real side of a comparison: features of real images, kept by extractor, pictures and their number."""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import LRUCache, cached
from filelock import FileLock
from safetensors import SafetensorError

from lab.images import Images
from lab.metrics.base import Extractor, Score
from lab.pictures import write_atomically
from lab.places import beside, home

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_KNOWN: LRUCache = LRUCache(8)  # sets of features in memory; all others are read from the disk again


def described(images: Images) -> str:
    """A reference set as a score names it."""
    return f"{len(images)} images, sha256 {images.digest()}"


def named(extractor: Extractor, images: Images) -> str:
    """What decides the features: a cache under this name can never mix two extractors, sets or numbers of images."""
    return f"{extractor.identity}, {described(images)}"


@cached(_KNOWN, key=named, lock=Lock())
def real_features(extractor: Extractor, images: Images) -> Tensor:
    """Features (n, d) float64 of all images of a reference set; computed once for this lab."""
    name = named(extractor, images)
    path = home() / "references" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside(path.parent) / f"{path.stem}.lock"):  # of several who ask, one computes
        known = _stored(path, name)
        return _computed(extractor, images, path, name) if known is None else known


def _stored(path: Path, name: str) -> Tensor | None:
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("features") if file.metadata().get("name") == name else None
    except (OSError, SafetensorError):  # not there, or damaged: it is computed anew
        return None


def _computed(extractor: Extractor, images: Images, path: Path, name: str) -> Tensor:
    from safetensors.torch import save

    features = extractor.features(images.values())
    write_atomically(path, save({"features": features}, {"name": name}))
    return features


def score(
    name: str, value: float, low: float, high: float, n: int, extractor: Extractor, images: Images
) -> Score:
    """A score that names whose features were compared, and with which real images."""
    reference = described(images)
    return Score(
        name=name, value=value, low=low, high=high, n=n, extractor=extractor.name, reference=reference
    )
