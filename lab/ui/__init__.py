"""The page: a thin skin over the operations. `build()` makes it, `launch()` serves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr

from lab import ops
from lab.errors import LabError
from lab.places import home
from lab.ui.controls import QUIET
from lab.ui.tabs import attack, data, explore

CSS = Path(__file__).with_name("page.css")
HEADER = """<header class="brand"><h1>Trojan Noise</h1><p>a lab for backdoors in diffusion models</p>
<p class="device" title="where the lab computes">{device}</p></header>"""
QUEUE = 64
FONT = ["system-ui", "sans-serif"]  # no font is fetched from anywhere
MONO = ["ui-monospace", "monospace"]


def build() -> gr.Blocks:
    """The whole page, not yet served; every call makes a new one."""
    with gr.Blocks(
        title="Trojan Noise", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True
    ) as page:
        _api()  # first: a handler of the page that has an operation's name gets a number, not the operation
        header = gr.HTML(HEADER.format(device=""), padding=False)
        page.load(
            _header, None, header, **QUIET
        )  # which device it is, torch knows; the page does not wait for it
        with gr.Tabs() as tabs:
            with gr.Tab("Explore", id="explore"):
                explorer = explore.build()
                explorer.loaded(page)
            with gr.Tab("Attack", id="attack") as attacking:
                attack.build(explorer).opens(attacking, tabs, "explore")
            with gr.Tab("Data", id="data"):
                data.build()
    page.queue(max_size=QUEUE, default_concurrency_limit=1)
    return page


def _header() -> str:
    return HEADER.format(device=ops.device_line())


def _api() -> None:
    for operation in ops.OPERATIONS.values():
        if operation.public:
            gr.api(
                _endpoint(operation), api_name=operation.name, concurrency_id="device", concurrency_limit=1
            )


def _endpoint(operation: ops.Operation) -> Any:
    from lab.ui.guard import guarded

    def call(options: dict) -> dict:
        if not isinstance(options, dict):  # any JSON can be sent, whatever the annotation says
            raise LabError(f"The options of {operation.name} are one JSON object.")
        return {"result": ops.final(operation(**options))}

    call.__name__ = operation.name
    call.__doc__ = operation.fn.__doc__
    return guarded(call)


def launch_options() -> dict[str, Any]:
    """How the page is served: nothing leaves this machine, nothing of the lab's own folder is served."""
    return {
        "theme": gr.themes.Default(
            primary_hue="indigo", neutral_hue="slate", spacing_size="sm", font=FONT, font_mono=MONO
        ),
        "css_paths": [CSS],
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": ["api"],
        "max_file_size": ops.MAX_ZIP,  # a picture has its own bound, checked before it is decoded
        "blocked_paths": [str(home())],
        "show_error": True,
    }


def launch(host: str | None = None, port: int | None = None) -> None:
    """Serve the page until it is stopped; on a Space, Gradio's own variables decide the address.

    torch is imported and the first networks are made ready once the page is served, while a person still reads;
    they are compiled while nobody waits.
    """
    page = build()
    hosted = bool(os.environ.get("SPACE_ID"))
    address = host or ("0.0.0.0" if hosted else os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    page.launch(server_name=address, server_port=port, prevent_thread_lock=True, **launch_options())
    ops.warm_up()
    if os.environ.get("LAB_COMPILE", "1") != "0":
        ops.WORKSHOP.open()
    page.block_thread()
