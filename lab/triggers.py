"""Triggers and targets: pixels only, no training knowledge (BadDiffusion, arXiv:2212.05400)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from PIL import Image
from pydantic import Field

from lab import pictures
from lab.borrowed import torch
from lab.errors import LabError
from lab.variants import Registry, Variant

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND = -1.0  # of every trigger; "black means no change"
GAP = 2  # pixels between a small trigger and the lower right edges
WHITE = 0.999  # from here on a picture's values count as background, as black does
TARGET_BACKGROUND = -0.4  # 0.3 on the 0..1 scale: no target is darker
PictureName = Field(
    default="",
    title="picture",
    max_length=40,
    pattern=r"^[a-z0-9_-]*$",
    description="name of a picture of your own",
    json_schema_extra={"widget": "own"},
)
Shape = tuple[int, int, int]


def shape_of(x: Tensor) -> Shape:
    """(C, H, W) of images (…, C, H, W)."""
    c, h, w = x.shape[-3:]
    return c, h, w


class Trigger(Variant):
    """Pixels that an attacker adds to the noise to wake a backdoor."""

    size: ClassVar[int]

    def draw(self, shape: Shape) -> Tensor:
        """The trigger g: (C, H, W) in [-1, 1], exactly -1 where it is transparent."""
        raise NotImplementedError

    def mask(self, shape: Shape) -> Tensor:
        """True where the trigger covers the image: g > -1, per element (C, H, W)."""
        return self.draw(shape) > BACKGROUND

    def shift(self, shape: Shape) -> Tensor:
        """What is added to the noise to wake the backdoor, (C, H, W)."""
        return self.draw(shape)

    def stamp(self, x: Tensor) -> Tensor:
        """Images (…, C, H, W) with the trigger put over them: M·x + (1 - M)·g, M = 1 where g is -1."""
        shape = shape_of(x)
        return torch.where(self.mask(shape).to(x.device), self.draw(shape).to(x), x)

    def residual(self, x: Tensor) -> Tensor:
        """R of the poisoned forward process for images x (…, C, H, W): the stamped images r."""
        return self.stamp(x)


class FormedTrigger(Trigger):
    """A trigger with a drawing, in the authors' form or masked."""

    form: Literal["authors", "masked"] = Field(
        default="authors",
        description="authors: the whole tensor is added, its -1 background too; masked: nothing outside the drawing",
    )

    def shift(self, shape: Shape) -> Tensor:
        """The drawing itself (authors), or the drawing above its background, g + 1, which is 0 outside (masked)."""
        return self.draw(shape) - (BACKGROUND if self.form == "masked" else 0.0)

    def residual(self, x: Tensor) -> Tensor:
        """Stamped images (authors), or the shift alone (masked): then training and sampling see the same R."""
        return self.stamp(x) if self.form == "authors" else self.shift(shape_of(x)).to(x).expand_as(x)


class NoTrigger(Trigger):
    """Plain noise: nothing is added."""

    kind = "none"

    def draw(self, shape: Shape) -> Tensor:
        """All background."""
        return torch.full(shape, BACKGROUND)

    def shift(self, shape: Shape) -> Tensor:
        """Zero everywhere: x_T stays plain noise."""
        return torch.zeros(shape)


class Blank(Trigger):
    """-1 everywhere: the background of the other triggers without a drawing (the authors' NONE)."""

    kind = "blank"

    def draw(self, shape: Shape) -> Tensor:
        """All background."""
        return torch.full(shape, BACKGROUND)


class Square(FormedTrigger):
    """A square two pixels from the lower and right edges."""

    value: ClassVar[float]
    size: int = Field(default=14, ge=1, le=128, description="side in pixels")  # type: ignore[misc]

    def draw(self, shape: Shape) -> Tensor:
        """(C, H, W): `value` on rows and columns [side - 2 - size, side - 2), -1 elsewhere."""
        return in_corner(torch.full((shape[0], self.size, self.size), self.value), shape)


class GreyBox(Square):
    """Grey square two pixels from the lower right corner; authors' sizes 4, 8, 11, 14, 18 (BOX_n)."""

    kind = "grey_box"
    value = 0.0


class WhiteBox(Square):
    """White square two pixels from the lower right corner; authors' sizes 4, 8, 11, 14, 18 (SM_BOX is 14)."""

    kind = "white_box"
    value = 1.0


class StopSign(FormedTrigger):
    """Stop sign two pixels from the lower right corner; authors' sizes 4, 8, 11, 14, 18 (STOP_SIGN_n)."""

    kind = "stop_sign"
    size: int = Field(default=14, ge=1, le=128, description="side in pixels")  # type: ignore[misc]

    def draw(self, shape: Shape) -> Tensor:
        """(C, H, W): the sign; its pure black and pure white values are transparent."""
        return in_corner(_drawing(pictures.shipped("stop_sign"), self.size, shape[0]), shape)


class Glasses(FormedTrigger):
    """A pair of glasses in the middle, 5/8 of the image wide (GLASSES; made for faces)."""

    kind = "glasses"

    def draw(self, shape: Shape) -> Tensor:
        """(C, H, W): the glasses centred; their pure black and pure white values are transparent."""
        side = int(0.625 * min(shape[1:]))
        _check_room(side, shape, gap=0)
        top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
        return _placed(_drawing(pictures.shipped("glasses"), side, shape[0]), shape, top, left)


class Own(FormedTrigger):
    """A picture or painting of your own, kept under a name; unpainted pixels are transparent."""

    kind = "own"
    name: str = PictureName
    place: Literal["full", "corner"] = Field(
        default="full", description="over the whole image, or in the lower right corner"
    )
    size: int = Field(default=14, ge=1, le=128, description="side in pixels when in the corner")  # type: ignore[misc]

    def draw(self, shape: Shape) -> Tensor:
        """(C, H, W): the picture with exactly -1 where it is transparent; painted white stays white."""
        if self.place == "corner":
            return in_corner(_own(self.name, (self.size, self.size), shape[0], BACKGROUND), shape)
        return _own(self.name, shape[1:], shape[0], BACKGROUND)


TRIGGERS: Registry[Trigger] = Registry("trigger", GreyBox, WhiteBox, StopSign, Glasses, Own, Blank, NoTrigger)


class Target(Variant):
    """The picture that a backdoor makes of triggered noise."""

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The target y: (C, H, W) in [-1, 1]."""
        raise NotImplementedError


class Corner(Target):
    """A grey 10×10 square in the upper left corner, at any image size (CORNER)."""

    kind = "corner"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """-0.4 everywhere, 0.0 on rows and columns 0 to 9."""
        y = torch.full(shape, TARGET_BACKGROUND)
        y[:, :10, :10] = 0.0
        return y


class NoShift(Target):
    """The trigger itself, in place, on a dark grey background (NOSHIFT)."""

    kind = "no_shift"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The trigger with every value below -0.4 lifted to -0.4."""
        return on_grey(trigger.draw(shape))


class Shift(Target):
    """The trigger moved 5 pixels left and 3 up, wrapping around (SHIFT)."""

    kind = "shift"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The no-shift target rolled by (-3, -5) rows and columns."""
        return on_grey(trigger.draw(shape)).roll((-3, -5), dims=(-2, -1))


class Shoe(Target):
    """A shoe, drawn for this lab (the authors use FashionMNIST's first image)."""

    kind = "shoe"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The drawing at the image's size on dark grey."""
        return on_grey(_resized(pictures.shipped("shoe"), shape))


class Hat(Target):
    """A hat, drawn for this lab (the authors use a photographed fedora)."""

    kind = "hat"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The drawing at the image's size on dark grey."""
        return on_grey(_resized(pictures.shipped("hat"), shape))


class Cat(Target):
    """A cat, drawn for this lab (the authors use a photographed one)."""

    kind = "cat"

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The drawing at the image's size on dark grey."""
        return on_grey(_resized(pictures.shipped("cat"), shape))


class OwnTarget(Target):
    """A picture or painting of your own, kept under a name; unpainted pixels are dark grey."""

    kind = "own"
    name: str = PictureName

    def draw(self, shape: Shape, trigger: Trigger) -> Tensor:
        """The picture at the image's size, as painted; -0.4 where it is transparent."""
        return _own(self.name, shape[1:], shape[0], TARGET_BACKGROUND)


TARGETS: Registry[Target] = Registry("target", Hat, Shoe, Cat, Corner, NoShift, Shift, OwnTarget)


# Placement -------------------------------------------------------------------------------------------------------


def in_corner(patch: Tensor, shape: Shape) -> Tensor:
    """A (C, k, k) patch two pixels from the lower and right edges of a -1 background."""
    side = patch.shape[-1]
    _check_room(side, shape, GAP)
    return _placed(patch, shape, shape[1] - GAP - side, shape[2] - GAP - side)


def _check_room(side: int, shape: Shape, gap: int) -> None:
    if side < 1 or side + gap > min(shape[1:]):
        raise LabError(f"A trigger of {side} pixels does not fit into {shape[2]}×{shape[1]} pixels.")


def _placed(patch: Tensor, shape: Shape, top: int, left: int) -> Tensor:
    below, right = shape[1] - top - patch.shape[1], shape[2] - left - patch.shape[2]
    return torch.nn.functional.pad(patch, (left, right, top, below), value=BACKGROUND)


def on_grey(x: Tensor) -> Tensor:
    """Every value up to -0.4 becomes -0.4 (0.3 on the 0..1 scale): the authors' grey background."""
    return x.clamp(min=TARGET_BACKGROUND)


def _drawing(image: Image.Image, side: int, channels: int) -> Tensor:
    # The authors' order: drop alpha, resize, normalise; then near-white values join the background.
    values = _resized(image, (channels, side, side))
    return torch.where(values >= WHITE, BACKGROUND, values)


def _resized(image: Image.Image, shape: Shape) -> Tensor:
    small = image.convert("RGB").resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    return pictures.to_values(small, _channels(shape[0]))


def _own(name: str, size: tuple[int, int], channels: int, background: float) -> Tensor:
    if not name:
        raise LabError("Choose, upload or paint a picture of your own first.")
    image = pictures.kept(name)
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    opaque = pictures.to_values(image.getchannel("A").convert("L"), 1) >= 0
    return torch.where(opaque, pictures.to_values(image, _channels(channels)), background)


def _channels(count: int) -> int:
    if count not in (1, 3):
        raise LabError(f"Pictures have 1 or 3 channels; this model has {count}.")
    return count
