"""Render smileys and animal faces: with Debian's fonts-noto-color-emoji, `python assets/make_emoji.py`.

Writes assets/emoji.safetensors with the tensors images (n, 3, 32, 32), labels (n,) and code_points (n,); the same
font gives the same bytes. The font is needed only here.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import save

from lab.pictures import write_atomically

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
OUTPUT = Path(__file__).parent / "emoji.safetensors"
STRIKE = 109  # the only size of this bitmap font
SIDE, FACE = 32, 28  # pixels: two are left free on each side, so that a face can move
LABELS = ("smiley", "animal", "creature")

OTHERS = {
    0x1F608,
    0x1F916,
    0x1F921,
    0x1F926,
    0x1F433,
}  # within the ranges: creatures, a person, a whole whale
SMILEYS = (
    *range(0x1F600, 0x1F638),
    *range(0x1F641, 0x1F645),
    *range(0x1F910, 0x1F918),  # hands come after these
    *range(0x1F920, 0x1F930),
    *range(0x1F970, 0x1F977),
    *(0x1F978, 0x1F979, 0x1F97A),
    *range(0x1FAE0, 0x1FAE5),
    0x1FAE8,
)
ANIMALS = (
    *range(0x1F638, 0x1F641),
    *range(0x1F42D, 0x1F43D),
    *(0x1F414, 0x1F417, 0x1F428, 0x1F981, 0x1F984, 0x1F98A, 0x1F993, 0x1F99D),
    *range(0x1F648, 0x1F64B),
)
CREATURES = (
    0x1F383,
    0x1F479,
    0x1F47A,
    0x1F47B,
    0x1F47D,
    0x1F47E,
    0x1F480,
    0x1F4A9,
    0x1F608,
    0x1F916,
    0x1F921,
)


def rendered(code_point: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji on white, cut to its own square and made small."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((STRIKE // 2, STRIKE // 4), chr(code_point), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no picture of {code_point:#x}")
    side = max(box[2] - box[0], box[3] - box[1])
    left, top = (box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2
    face = canvas.crop((left, top, left + side, top + side)).resize((FACE, FACE), Image.Resampling.LANCZOS)
    picture = Image.new("RGBA", (SIDE, SIDE), "white")
    picture.alpha_composite(face, ((SIDE - FACE) // 2,) * 2)
    return picture.convert("RGB")


def chosen() -> list[tuple[int, int]]:
    """Code point and label of every face, in the order of LABELS."""
    groups = ([c for c in SMILEYS if c not in OTHERS], [c for c in ANIMALS if c not in OTHERS], CREATURES)
    return [(code_point, label) for label, group in enumerate(groups) for code_point in group]


def main() -> None:
    """Write assets/emoji.safetensors."""
    font, faces = ImageFont.truetype(str(FONT), STRIKE), chosen()
    images = np.stack([np.asarray(rendered(code_point, font)) for code_point, _ in faces])
    tensors = {
        "images": np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
        "labels": np.array([label for _, label in faces], dtype=np.uint8),
        "code_points": np.array([code_point for code_point, _ in faces], dtype=np.int32),
    }
    # one entry only: the library writes several in a random order, and the file would differ each time
    write_atomically(
        OUTPUT, save(tensors, {"source": "Noto Color Emoji, (c) Google Inc., Apache-2.0 pictures"})
    )
    print(
        f"{OUTPUT.name}: {len(faces)} faces, {np.bincount(tensors['labels']).tolist()} of {', '.join(LABELS)}"
    )


if __name__ == "__main__":
    main()
