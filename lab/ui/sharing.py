"""Take a model home as a file, bring one in, or publish it on the Hugging Face Hub with its card."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lab import ops, space
from lab.errors import LabError
from lab.ui import words
from lab.ui.controls import HEARD, QUIET
from lab.ui.guard import guarded

INTRO = (
    "A file holds the model, its card, its pictures and a checksum of each, and gives the same samples in another lab. "
    "Published models are **private** until you say otherwise, and a backdoored one says so in its name and on top of its card."
)
GATES = [
    ("asks for a name first", "auto"),
    ("waits for your yes", "manual"),
    ("open to everybody at once", "none"),
]
SEND: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "hub", "concurrency_limit": 1}
SENDING = words.busy("On its way to the Hub.")


class Sharing:
    """The panel's components and handlers; it shares the model that is chosen in a dropdown of the tab."""

    def __init__(self, model: gr.Dropdown) -> None:
        self.model = model
        gr.Markdown(INTRO)
        with gr.Row(elem_classes="presets"):
            self.export = gr.Button("Make the file", size="sm", elem_id="export", min_width=110)
            self.bring = gr.UploadButton(
                "Bring one in…", file_types=[".zip"], size="sm", elem_id="import", min_width=110
            )
        # It says whose file it is and stays: hiding it for the next model hid a file that was made meanwhile.
        self.file = gr.DownloadButton("Download", size="sm", visible=False, elem_id="exported")
        with gr.Accordion("Publish on the Hub", open=False, elem_id="publishing"):
            self._publishing()
        self.status = gr.HTML(elem_id="sharing", elem_classes="tight")
        with gr.Accordion("Its card, as others see it", open=False, elem_id="card-preview"):
            self.card = gr.Code(language="markdown", show_label=False, interactive=False, max_lines=24)

    def _publishing(self) -> None:
        self.repo = gr.Textbox(
            "", label="Repository", placeholder="owner/name", max_length=200, elem_id="publish-to"
        )
        self.public = gr.Checkbox(
            False, label="Public", info="without it only you see it", elem_id="publish-public"
        )
        self.gate = gr.Radio(GATES, value="auto", label="A public one")
        if space.has_sign_in():
            gr.LoginButton(size="sm")
        self.publish = gr.Button("Publish", size="sm", variant="primary", elem_id="publish")

    def opens(self, listed: dict[str, Any]) -> None:
        """Who listens to what. listed: the event that shows which models are here now."""
        self.model.change(guarded(self.show), self.model, [self.card, self.repo], **QUIET)
        self.export.click(guarded(self.make), self.model, [self.file, self.status], **HEARD)
        brought = self.bring.upload(guarded(self.take), self.bring, [self.model, self.status], **HEARD)
        brought.success(**listed, **QUIET)
        sent = self.publish.click(lambda: SENDING, None, self.status, **QUIET)
        done = sent.then(
            guarded(self.send), [self.model, self.repo, self.public, self.gate], self.status, **SEND
        )
        done.failure(lambda: "", None, self.status, **QUIET)

    # Handlers --------------------------------------------------------------------------------------------------------

    def show(self, name: str | None) -> tuple[str, Any]:
        """The card that would travel with a model, and a name for it that says what it is."""
        if not name:
            return "", gr.skip()  # what somebody has typed meanwhile stays
        return ops.preview(name), gr.update(placeholder=f"owner/{ops.proposed(name)}")

    def make(self, name: str | None) -> tuple[Any, str]:
        """The model as a file to download."""
        if not name:
            raise LabError("Choose a model first.")
        with tempfile.TemporaryDirectory(prefix="trojan-noise-") as folder:
            made = ops.OPERATIONS["export"](checkpoint=name, out=str(Path(folder) / f"{name}.zip"))
            kept = self.file.move_resource_to_block_cache(made["file"])  # which is emptied after a day
        label = f"Download {name}.zip, {made['bytes'] / 1e6:.1f} MB"
        return gr.update(value=kept, label=label, visible=True), words.sentence("The file is ready.")

    def take(self, file: str) -> tuple[Any, str]:
        """A file of another lab becomes a model of this one."""
        found = ops.OPERATIONS["import"](file=file)
        known = "backdoored" if found["backdoored"] else "not known to be clean or backdoored"
        said = words.sentence(f"It is here as {found['checkpoint']}: {known}.")
        return gr.update(choices=[*_names()], value=found["checkpoint"]), said

    def send(self, name: str | None, repo: str, public: bool, gate: str, token: gr.OAuthToken | None) -> str:
        """Publish it with the visitor's own token, or with the operator's where the lab is the operator's own."""
        options = ops.PublishOptions.of(checkpoint=name or "", repo=repo.strip(), public=public, gate=gate)
        if space.is_space() and not token:  # the operator's token is not for visitors
            raise LabError("Sign in with Hugging Face first; it is published in your name.")
        done = ops.publish_as(options, token.token) if token else ops.OPERATIONS["publish"](**dict(options))
        who = "everybody can find it" if done["public"] else "only you see it"
        link = f'<a href="{escape(done["url"])}" target="_blank" rel="noopener">{escape(done["repo"])}</a>'
        return f'<p class="soft">Published as {link}, commit {escape(done["revision"][:8])}; {who}.</p>'


def _names() -> list[str]:
    return [line["name"] for line in ops.OPERATIONS["list"](what="checkpoints")]
