"""Pictures of one's own on the page: painted or uploaded, kept under a name, and chosen where they are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from lab import ops
from lab.ui import words
from lab.ui.controls import HEARD, Chooser
from lab.ui.guard import guarded
from lab.ui.pixelpad import PixelPad

SIDE = 32  # pixels of the pad


class OwnPictures:
    """A pad and an upload; what comes of them is chosen as the trigger or as the target.

    elem_id: tells the ones of one page apart. uses: what a picture can become, the first one at first.
    """

    def __init__(self, elem_id: str, uses: tuple[str, ...] = ("trigger", "target")) -> None:
        self.uses = uses
        with gr.Accordion("Paint or upload a picture", open=False, elem_id=elem_id):
            self.use = gr.Radio(list(uses), value=uses[0], label="Use it as the", elem_classes="use")
            self.pad = PixelPad(size=SIDE, label="Pixels")
            self.name = gr.Textbox(
                "", label="Name", placeholder="made from the pixels if empty", max_length=40
            )
            with gr.Row():
                self.keep = gr.Button("Use the painting", min_width=110, size="sm", elem_classes="keep")
                self.upload = gr.UploadButton("Upload…", file_types=["image"], size="sm", min_width=90)
            self.said = gr.HTML()

    def serves(self, *roots: Chooser) -> None:
        """Who gets the pictures: the choosers called like a use, in these or within them."""
        self.choosers = [
            (use, chooser) for use in self.uses for root in roots for chooser in root.within(use)
        ]
        more: dict[str, Any] = {"outputs": [self.said, *self.outputs], **HEARD}
        self.keep.click(guarded(self.paint), [self.pad, self.name, self.use], **more)
        self.upload.upload(guarded(self.take), [self.upload, self.name, self.use], **more)

    @property
    def outputs(self) -> list[Any]:
        """What a new picture changes."""
        return [each for _, chooser in self.choosers for each in (chooser.kind, *chooser.own)]

    def refresh(self) -> list[Any]:
        """Updates of `outputs` to the pictures that there are now; none is chosen."""
        return self._chosen(None, "")

    def paint(self, pixels: Any, name: str, use: str) -> list[Any]:
        """Keep the painting and choose it."""
        return self._kept(ops.OPERATIONS["paint"](pixels=pixels, size=SIDE, name=name)["name"], use)

    def take(self, file: str, name: str, use: str) -> list[Any]:
        """Keep an uploaded picture and choose it."""
        return self._kept(ops.upload(Path(file).read_bytes(), name), use)

    def _kept(self, name: str, use: str) -> list[Any]:
        return [words.kept(ops.picture(name), name, use), *self._chosen(name, use)]

    def _chosen(self, name: str | None, wanted: str) -> list[Any]:
        names = picture_names()
        updates = (
            chooser.choose_own(names, name if use == wanted else None) for use, chooser in self.choosers
        )
        return [each for update in updates for each in update]


def picture_names() -> list[str]:
    """Names of the pictures of one's own."""
    return [line["name"] for line in ops.OPERATIONS["list"](what="pictures")]


def set_names() -> list[str]:
    """Names of the data sets of one's own."""
    return [line["name"] for line in ops.OPERATIONS["list"](what="uploads")]
