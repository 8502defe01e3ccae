"""Models: what is here and where it is from, and models of the Hugging Face Hub, looked at before they are fetched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab import ops
from lab.progress import Tick
from lab.ui import shelf, words
from lab.ui.controls import HEARD, QUIET
from lab.ui.guard import guarded
from lab.ui.sharing import Sharing
from lab.ui.tabs.explore import Explore
from lab.ui.wish import Wish

# A download is slow and computes nothing: beside the device's queue, one at a time.
FETCH: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "hub", "concurrency_limit": 1}
ASK: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "hub-ask", "concurrency_limit": 4}
EVERY = 0.3  # seconds between two words on how far a download is
CONFIRM = "(name) => { if (!confirm(`Delete the model ${name}? It cannot be brought back.`)) throw new Error('kept'); }"
INTRO = (
    "Every model of this lab, and anybody's DDPM from the **Hugging Face Hub**. Only configuration and safetensors are "
    "fetched, and checked before memory is taken for them. A model without a known recipe is *not known*, never *clean*."
)
PICKLE = (
    "A pickle can hold a program. It is read by torch's restricted reader in a process of its own, with little memory "
    "and time and no token, and kept as safetensors; the pickle is thrown away."
)
STOPPED = "Stopped; what was fetched is kept, and Pull goes on from there."


class Models:
    """The tab's components and handlers."""

    def __init__(self, explore: Explore) -> None:
        self.explore = explore
        self.layout()

    # Layout ----------------------------------------------------------------------------------------------------------

    def layout(self) -> None:
        """What is here, then what the Hub has."""
        gr.Markdown(INTRO)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=1, min_width=290, elem_classes="controls"):
                self._here()
                self._hub()
            with gr.Column(scale=4, min_width=340, elem_classes="results"):
                self.status = gr.HTML(elem_id="hub-status", elem_classes="tight")
                self.about = gr.HTML(
                    words.sentence("Choose a model to see what is known of it."), elem_id="about"
                )
                with gr.Accordion("Share the chosen model", open=False, elem_id="share"):
                    self.sharing = Sharing(self.model)
                self.found = gr.Radio(_known(), label="Known models of the Hub", elem_id="hub-found")
                gr.Markdown("#### All models of this lab")
                self.shelf = gr.HTML(elem_id="shelf")
        self.wish, self.ticket = gr.State(Wish()), gr.Number(0, precision=0, visible=False)

    def _here(self) -> None:
        gr.Markdown("#### In this lab")
        self.model = gr.Dropdown([], label="Model", elem_id="model-here")
        with gr.Row(elem_classes="presets"):
            self.open = gr.Button("Open in Explore", size="sm", min_width=120, elem_id="open-model")
            self.delete = gr.Button("Delete", size="sm", min_width=80, elem_id="delete-model")

    def _hub(self) -> None:
        gr.Markdown("#### From the Hub")
        self.text = gr.Textbox(
            "", label="Search", placeholder="ddpm cifar10", max_length=200, elem_id="hub-text"
        )
        self.search = gr.Button("Search", size="sm", elem_id="hub-search")
        self.repo = gr.Textbox(
            "", label="Repository", placeholder="owner/name", max_length=200, elem_id="hub-repo"
        )
        self.revision = gr.Textbox(
            "", label="Revision", info="branch, tag or commit; empty pins the newest", max_length=100
        )
        self.pickle = gr.Checkbox(False, label="Also take a pickle", info=PICKLE, elem_id="hub-pickle")
        with gr.Row(elem_classes="presets"):
            self.look = gr.Button("Look", size="sm", min_width=80, elem_id="hub-look")
            self.pull = gr.Button("Pull", size="sm", variant="primary", min_width=80, elem_id="hub-pull")
            self.stop = gr.Button("Stop", size="sm", variant="stop", min_width=80, elem_id="hub-stop")

    # Events ----------------------------------------------------------------------------------------------------------

    def opens(self, tab: gr.Tab, tabs: gr.Tabs, explore_id: str) -> None:
        """Who listens to what; coming here shows what was made elsewhere meanwhile."""
        self.explore_id = explore_id
        listed: dict[str, Any] = {
            "fn": self.listed,
            "inputs": self.model,
            "outputs": [self.model, self.shelf],
        }
        tab.select(**listed, **QUIET)
        self.model.input(guarded(self.describe), self.model, self.about, **HEARD)
        settings = [tabs, *self.explore.settings]
        self.open.click(guarded(self.show_in_explore), self.model, settings, **HEARD)
        sure = self.delete.click(None, self.model, None, js=CONFIRM)
        gone = sure.success(guarded(self.remove), self.model, [self.about, self.model], **HEARD)
        gone.success(**listed, **QUIET)
        self._events_of_hub(listed)
        self.sharing.opens(listed)

    def _events_of_hub(self, listed: dict[str, Any]) -> None:
        for event in (self.search.click, self.text.submit):
            event(guarded(self.find), self.text, self.found, **ASK)
        asked = [self.repo, self.revision]
        chosen = self.found.input(lambda name: (name, ""), self.found, asked, **QUIET)
        for event in (chosen.success, self.look.click, self.repo.submit):
            event(guarded(self.look_at), asked, self.about, **ASK)
        wanted = self.pull.click(Wish.next, self.wish, self.ticket, **QUIET)
        pulled = wanted.then(
            guarded(self.fetch), [self.wish, self.ticket, *asked, self.pickle], [self.status, self.about, self.model],
            show_progress="hidden", **FETCH,
        )  # fmt: skip
        pulled.failure(lambda: "", None, self.status, **QUIET)
        pulled.success(**listed, **QUIET)
        self.stop.click(Wish.stop, self.wish, None, **QUIET)

    # Handlers --------------------------------------------------------------------------------------------------------

    def listed(self, chosen: str | None) -> tuple[Any, str]:
        """The models that are here now."""
        lines = ops.OPERATIONS["list"](what="checkpoints")
        names = [line["name"] for line in lines]
        choices = [(f"{line['name']}  {words.badge(line['state'])}", line["name"]) for line in lines]
        return gr.update(choices=choices, value=chosen if chosen in names else None), shelf.shelf(lines)

    def describe(self, name: str | None) -> str:
        """What is known of a model that is here."""
        return shelf.model(ops.OPERATIONS["describe"](checkpoint=name or ""))

    def show_in_explore(self, name: str | None) -> list[Any]:
        """The model in slot B of Explore, beside what it was made from where that is here."""
        base = ops.OPERATIONS["describe"](checkpoint=name or "")["card"]["base"]
        here = [line["name"] for line in ops.OPERATIONS["list"](what="checkpoints")]
        options = {"a": base if base in here else "", "b": name}
        return [gr.Tabs(selected=self.explore_id), *self.explore.open(options)]

    def remove(self, name: str | None) -> tuple[str, None]:
        """Delete it; the browser asked before."""
        removed = ops.OPERATIONS["discard"](checkpoint=name or "")["removed"]
        return words.sentence(f"{removed} is deleted."), None

    def find(self, text: str) -> Any:
        """Models that match, or the known ones where nothing was typed."""
        rows = ops.OPERATIONS["hub"](what="search", text=text)
        label = f"{len(rows)} models of the Hub" if text.strip() else "Known models of the Hub"
        return gr.update(choices=[shelf.choice(row) for row in rows], value=None, label=label)

    def look_at(self, repo: str, revision: str) -> str:
        """What a repository holds."""
        return shelf.repository(ops.OPERATIONS["hub"](what="look", text=repo, revision=revision))

    def fetch(
        self, wish: Wish, ticket: int, repo: str, revision: str, pickle: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Pull it, saying how far that is; Stop ends it at the next piece."""
        options = {"text": repo, "revision": revision, "allow_pickle": pickle}
        said = 0.0
        for news in ops.OPERATIONS["hub"](what="pull", **options):
            if wish.number != ticket:
                yield words.sentence(STOPPED), gr.skip(), gr.skip()
                return
            if not isinstance(news, Tick):
                yield self._arrived(news["checkpoint"])
            elif time.monotonic() - said > EVERY:
                said = time.monotonic()
                yield shelf.progress(news.step, news.total, news.text), gr.skip(), gr.skip()

    def _arrived(self, name: str) -> tuple[Any, ...]:
        choices = self.listed(name)[0]
        said = f"It is here as {name}: in Explore, as a base in Attack, and in Measure."
        return words.sentence(said), self.describe(name), choices


def _known() -> list[tuple[str, str]]:
    """Models that are known without asking the Hub."""
    return [shelf.choice(row) for row in ops.OPERATIONS["hub"](what="search")]


def build(explore: Explore) -> Models:
    """The tab, inside an open gr.Tab; its models open in the Explore tab."""
    return Models(explore)
