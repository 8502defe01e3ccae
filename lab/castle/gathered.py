"""Pictures that were drawn elsewhere, by any model: a set of images, each with the class that it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.captions import class_of
from lab.data import Dataset, SizedDataset
from lab.errors import LabError
from lab.images import Images

if TYPE_CHECKING:
    from torch import Tensor


def gathered(generated: Dataset, training: Images) -> tuple[Tensor, Tensor]:
    """Pictures (n, C, H, W) in [-1, 1] in the training images' size, and their classes (n,).

    Sub-folders, labels or prompts name the class as the training images' classes are called, or by its number.
    """
    found = _sized(generated, training)
    labels = _classes(found, training)
    if labels is None:
        raise LabError(
            "Nothing says which class these pictures were asked for: use sub-folders or metadata.csv."
        )
    return found.values(), labels


def asked_for(generated: Dataset, dataset: Dataset, target: int) -> Tensor:
    """The pictures that were asked for as the target class; all of them where nothing is said of any."""
    training = dataset.load("train")
    found = _sized(generated, training)
    labels = _classes(found, training)
    if labels is None:
        return found.values()
    if not bool((labels == target).any()):
        raise LabError(
            f"None of these {len(found)} pictures was asked for as class {training.class_names[target]}."
        )
    return found.values(labels == target)


def _classes(found: Images, training: Images) -> Tensor | None:
    if found.labels is None:
        return None
    known = [class_of(name, training.class_names) for name in found.class_names]
    return found.labels.new_tensor(known)[found.labels]


def _sized(generated: Dataset, training: Images) -> Images:
    if not isinstance(generated, SizedDataset):
        raise LabError("A generated set is a folder, or an uploaded one.")
    channels, side, _ = training.shape
    return generated.model_copy(update={"side": side, "colour": channels == 3}).whole()
