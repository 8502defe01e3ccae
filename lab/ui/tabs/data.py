"""Data: what the models learn from, and pictures of one's own to train on."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import ops
from lab.ui import words
from lab.ui.controls import Chooser
from lab.ui.guard import guarded
from lab.ui.own import set_names

# A load may download: one at a time, and with the sentence of a LabError.
WORK: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "data", "concurrency_limit": 1}
INTRO = (
    "A model is what it was trained on. Look at a data set here, or upload pictures of your own and train on them in "
    "**Attack**, or with the command below."
)
OWN = (
    f"2 to {ops.MAX_SET:,} pictures, or a zip file of them (at most {ops.MAX_ZIP // 2**20} MiB). They are cropped to squares; "
    "then they are a choice here and in **Attack**, as *uploaded*."
)


class Data:
    """The tab's components and handlers."""

    def __init__(self) -> None:
        self.layout()
        self.show.click(guarded(self.look), self.dataset.components, self.found, **WORK)
        self.upload.upload(
            guarded(self.take), [self.upload, self.name], [self.dataset.kind, *self.dataset.own], **WORK
        ).success(guarded(self.look), self.dataset.components, self.found, **WORK)

    def layout(self) -> None:
        """What to look at on the left, what it is on the right."""
        gr.Markdown(INTRO)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                self.dataset = Chooser(ops.OPEN_DATASETS, {"kind": "digits"}, set_names())
                self.show = gr.Button("Show", variant="primary", elem_id="show-data")
                # in sight, not folded away: a field that is only mounted when it is unfolded loses what is typed at once
                with gr.Column(elem_id="own-data"):
                    gr.Markdown("#### Pictures of your own\n" + OWN, elem_classes="help")
                    self.name = gr.Textbox("", label="Name of the data set", max_length=40)
                    self.upload = gr.UploadButton(
                        "Upload pictures or a zip…",
                        file_types=["image", ".zip"],
                        file_count="multiple",
                        size="sm",
                    )
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self.found = gr.HTML(words.sentence("Press Show to see the data."), elem_id="data")

    def look(self, *values: Any) -> str:
        """Some pictures of the chosen data set and what is known of it."""
        return words.dataset(ops.OPERATIONS["peek"](dataset=self.dataset.collect(values)))

    def take(self, files: list[str], name: str) -> list[Any]:
        """Keep uploaded pictures as a data set and choose it."""
        kept = ops.upload_set(files, name)
        return self.dataset.choose_own(set_names(), kept)


def build() -> Data:
    """The tab, inside an open gr.Tab."""
    return Data()
