"""Feeds the hostile corpus to the lab in one process, and says of each entry what became of it: `python tests/meet.py FOLDER`.

The last line is JSON: entries with their sentence, seconds and the memory that the process had at most beyond what it
has when it is idle.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from hostile import make
from hub import Hub, Model

from lab.errors import LabError
from lab.hub import look, pull
from lab.models import load, read_card
from lab.ops import OPERATIONS, final, upload, upload_set
from lab.places import CHECKPOINTS

GOOD = CHECKPOINTS / "emoji-clean"


def high_water() -> int:
    """Bytes of memory that this process had at most since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Served(Model):
    """A repository that says what it likes of its files."""

    says: dict[str, dict[str, Any]]

    def info(self, name: str) -> dict[str, Any]:
        about = super().info(name)
        for each in about["siblings"]:
            each.get("lfs", {}).update(self.says.get(each["rfilename"], {}))
            each["size"] = self.says.get(each["rfilename"], {}).get("size", each["size"])
        return about


def entry_points(hub: Hub) -> dict[str, Callable[[Any], Any]]:
    """Who meets what."""

    def fetched(about: dict[str, Any]) -> Any:
        model = Served(about["files"], sha=about.get("sha", "a" * 40))
        model.says = about["says"]
        hub.models["evil/net"] = model
        return final(pull("evil/net", allow_pickle=True))

    def named(text: str) -> None:
        takers = (
            look,
            lambda name: OPERATIONS["describe"](checkpoint=name),
            lambda name: OPERATIONS["discard"](checkpoint=name),
            lambda name: OPERATIONS["show"](run=name),
            lambda name: OPERATIONS["train"](name=name),
            lambda name: OPERATIONS["paint"](pixels=[[0, 0, "#ffffff"]], name=name),
            lambda name: final(pull("evil/net", name=name)),
        )
        for taker in takers:
            _must_refuse(taker, text)
        raise LabError("Every one of them refused it.")

    return {
        "load": load,
        "card": read_card,
        "picture": upload,
        "set": lambda file: upload_set([str(file)], "evil"),
        "import": lambda file: OPERATIONS["import"](file=str(file)),
        "pull": fetched,
        "name": named,
        "link": lambda options: final(OPERATIONS["look"](**options)),
    }


def _must_refuse(taker: Callable[[str], Any], text: str) -> None:
    try:
        taker(text)
    except LabError:
        return
    raise AssertionError(f"accepted as a name: {text[:40]!a}")


def meeting(feed: Callable[[Any], Any], given: Any) -> dict[str, Any]:
    """What one entry point says to one entry."""
    before, since = psutil.Process().memory_info().rss, time.monotonic()
    forget_high_water()
    try:
        feed(given)
        said, refused = "accepted", False
    except LabError as error:
        said, refused = str(error), True
    except Exception as error:  # what must not come
        said, refused = f"{type(error).__name__}: {error}"[:300], False
    memory = high_water() - before
    return {"said": said, "refused": refused, "seconds": time.monotonic() - since, "memory": memory}


def main(folder: Path) -> None:
    """Build, get ready as a page is that was used, then meet all."""
    made = make(folder, GOOD)
    load(GOOD)
    OPERATIONS["look"]()
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = hub.address
    hub.models["good/net"] = Model(_files(GOOD))
    final(pull("good/net"))
    points = entry_points(hub)
    found = [
        {"name": entry.name, "meets": entry.meets, **meeting(points[entry.meets], given)}
        for entry, given in made
    ]
    sys.stdout.write(json.dumps(found) + "\n")


def _files(folder: Path) -> dict[str, bytes]:
    paths = (
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.safetensors",
    )
    return {path: (folder / path).read_bytes() for path in paths}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
