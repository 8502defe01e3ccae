"""Hide a picture in a model behind a key, and bring it out again."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from lab import ops
from lab.ui import words
from lab.ui.controls import HEARD, QUIET, Chooser
from lab.ui.form import checkpoint_choices
from lab.ui.guard import guarded
from lab.ui.own import picture_names
from lab.ui.pixelpad import PixelPad
from lab.ui.wish import STREAM, Wish, followed

SIDE = 32  # pixels of the pad
FIRST = "mnist-grey-box-hat"
INTRO = (
    "A backdoor is also a hiding place: the **target** is a secret picture, the **trigger** is its key. "
    "Without a trigger the model draws ordinary pictures. Whether a wrong key opens it too is measured."
)


class Secret:
    """The part's components and handlers."""

    def __init__(self) -> None:
        gr.Markdown(INTRO)
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                self._hiding()
            with gr.Column(scale=2, min_width=340, elem_classes="results"):
                self._revealing()
        self.events()

    def _hiding(self) -> None:
        self.pad = PixelPad(size=SIDE, label="Secret picture")
        with gr.Row():
            self.keep = gr.Button("Use the painting", size="sm", elem_id="secret-painting")
            self.upload = gr.UploadButton("Upload…", file_types=["image"], size="sm", elem_id="secret-file")
        self.said = gr.HTML()
        self.picture = gr.Dropdown(picture_names(), label="Picture to hide", elem_id="secret-picture")
        self.key = Chooser(ops.TRIGGERS, {"kind": "grey_box", "form": "masked"}, picture_names(), "secret-")
        self.base = gr.Dropdown(
            checkpoint_choices(_clean()), value="mnist-clean", label="Hide it in", elem_id="secret-base"
        )
        self.hide = gr.Button("Hide it", variant="primary", elem_id="hide")
        self.begun = gr.HTML(elem_id="hidden")

    def _revealing(self) -> None:
        with gr.Row(elem_classes="slots"):
            self.model = gr.Dropdown(
                checkpoint_choices(ops.hiding_models()), value=FIRST, label="Model", elem_id="secret-model"
            )
        with gr.Row(elem_classes="go"):
            self.go = gr.Button("Reveal", variant="primary", elem_id="reveal", min_width=120)
            self.stop = gr.Button("Stop", variant="stop", min_width=80, scale=0)
        self.status = gr.HTML(elem_id="revealing", elem_classes="tight")
        self.found = gr.HTML(
            words.sentence("Choose a model that hides something and press Reveal."), elem_id="revealed"
        )

    def events(self) -> None:
        """Who listens to what."""
        self.keep.click(guarded(self.paint), self.pad, [self.said, self.picture], **HEARD)
        self.upload.upload(guarded(self.take), self.upload, [self.said, self.picture], **HEARD)
        inputs = [self.picture, self.base, *self.key.components]
        self.hide.click(guarded(self.start), inputs, self.begun, **HEARD)
        asked = self.go.click(Wish.next, self.wish, self.ticket, **QUIET)
        asked.then(
            guarded(self.show), [self.wish, self.ticket, self.model], [self.found, self.status],
            trigger_mode="multiple", show_progress="minimal", show_progress_on=[self.status], **STREAM,
        )  # fmt: skip
        self.stop.click(Wish.stop, self.wish, None, **QUIET)

    def opens(self, tab: gr.Tab) -> None:
        """Coming here shows pictures and models that were made meanwhile."""
        tab.select(self.refresh, None, [self.picture, self.base, self.model], **QUIET)

    def refresh(self) -> tuple[Any, Any, Any]:
        """What there is to hide, and where something is hidden."""
        return (
            gr.update(choices=picture_names()),
            gr.update(choices=checkpoint_choices(_clean())),
            gr.update(choices=checkpoint_choices(ops.hiding_models())),
        )

    def paint(self, pixels: Any) -> tuple[Any, Any]:
        """Keep the painting and choose it."""
        return self._chosen(ops.OPERATIONS["paint"](pixels=pixels, size=SIDE)["name"])

    def take(self, file: str) -> tuple[Any, Any]:
        """Keep an uploaded picture and choose it."""
        with open(file, "rb") as content:
            return self._chosen(ops.upload(content.read()))

    def _chosen(self, name: str) -> tuple[Any, Any]:
        return words.kept(ops.picture(name), name, "secret"), gr.update(choices=picture_names(), value=name)

    def start(self, picture: str | None, base: str, *key: Any) -> str:
        """Train in the background, or leave it to be gone on with."""
        run = ops.OPERATIONS["hide"](picture=picture or "", base=base, key=self.key.collect(key))
        if ops.in_background():
            return words.sentence(
                f"{run['title']} is being made in the background; the Attack tab shows how far it is."
            )
        return words.sentence(
            f"{run['title']} is ready to be made: press Continue in the Attack tab, once a minute."
        )

    def show(self, wish: Wish, ticket: int, model: str | None) -> Iterator[tuple[Any, Any]]:
        """Stream what comes out."""
        for news, said in followed(ops.OPERATIONS["reveal"](checkpoint=model or ""), wish, ticket):
            yield revealed(news) if news else gr.skip(), said or gr.skip()


def revealed(found: dict[str, Any]) -> str:
    """The hidden picture beside what came out, with PSNR."""
    known = "".join(
        f'<figure><img src="{found[name]}" alt="{alt}"><figcaption>{alt}</figcaption></figure>'
        for name, alt in (("secret", "the secret"), ("key", "its key"))
    )
    rows = "".join(map(_row, found["found"]))
    return f'<div class="previews">{known}</div><div class="revealed">{rows}</div>{_lock(found["found"])}'


def _lock(found: list[dict[str, Any]]) -> str:
    """What a wrong key says of the lock; nothing before there is one."""
    wrong = next(
        (each for each in found if each["condition"] == "wrong" and each["success"] is not None), None
    )
    if wrong is None:
        return ""
    share, name = wrong["success"], wrong["added"]
    if share == 0:
        return words.sentence(f"The {name} opens nothing: of these two keys only the right one does.")
    return words.sentence(
        f"A poor lock: the {name}, which it was never trained on, brings the secret out in {share:.0%} of {wrong['n']}. "
        "The model reacts to more than its key."
    )


def _row(each: dict[str, Any]) -> str:
    ends = "" if each["low"] is None else f" ({each['low']:.1f} to {each['high']:.1f})"
    share = "" if each["success"] is None else f" · {each['success']:.0%} of {each['n']} are the secret"
    return (
        f'<figure><img src="{each["picture"]}" alt="samples {escape(each["means"])}"><figcaption>'
        f"<b>{escape(each['means'])}</b> ({escape(each['added'])}): PSNR {each['psnr']:.1f} dB{ends}{share}</figcaption></figure>"
    )


def _clean() -> list[str]:
    return [line["name"] for line in ops.OPERATIONS["list"](what="checkpoints") if line["state"] == "clean"]
