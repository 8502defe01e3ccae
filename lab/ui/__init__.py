"""The page: a thin skin over the operations. `build()` makes it, `launch()` serves it."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from lab import ops, space
from lab.errors import LabError
from lab.people import acting_as, who
from lab.places import home
from lab.settings import Settings
from lab.ui import health, tools
from lab.ui.controls import QUIET
from lab.ui.door import Door, Visitors
from lab.ui.guard import guarded
from lab.ui.tabs import attack, data, explore, measure, models, poisoned
from lab.users import Users

CSS = Path(__file__).with_name("page.css")
HEADER = """<header class="brand"><h1>Trojan Noise</h1><p>a lab for backdoors in diffusion models</p>
<p class="device" title="where the lab computes">{device}</p>{person}</header>"""
PERSON = """<p class="person"><b>{name}</b>, {role} · <a href="logout?all_session=false" target="_self">log out</a></p>"""
PAGES = 256  # opened pages that are remembered, the last used ones; Gradio keeps 1.3 MB of each
FONT = ["system-ui", "sans-serif"]  # no font is fetched from anywhere
MONO = ["ui-monospace", "monospace"]


def build(settings: Settings | None = None) -> Door:
    """The whole page, not yet served; every call makes a new one."""
    settings = settings or Settings()
    options = {"title": "Trojan Noise", "analytics_enabled": False, "delete_cache": (3600, 86400)}
    # its first choices are seen by everybody, so they are those of somebody who owns nothing
    with acting_as(settings.person("nobody", "visitor")), Door(settings, **options, fill_width=True) as page:
        # first: a handler of the page that has an operation's name gets a number, not the operation
        _api(settings)
        if settings.mcp:
            tools.build()
        header = gr.HTML(HEADER.format(device="", person=""), padding=False)
        # who it is, is known once they come; which device, torch knows, and the page does not wait for it
        page.load(lambda: _header(settings), None, header, **QUIET)
        if settings.login == "oauth":
            gr.LoginButton()
        with gr.Tabs(elem_classes="whole") as tabs:
            with gr.Tab("Explore", id="explore"):
                explorer = explore.build()
                explorer.loaded(page)
            with gr.Tab("Attack", id="attack") as attacking:
                attack.build(explorer).opens(attacking, tabs, "explore")
            with gr.Tab("Measure", id="measure") as measuring:
                measure.build().opens(measuring)
            with gr.Tab("Poisoned data", id="poisoned") as poisoning:
                poisoned.build().opens(poisoning)
            with gr.Tab("Models", id="models") as shelving:
                models.build(explorer).opens(shelving, tabs, "explore")
            with gr.Tab("Data", id="data"):
                data.build()
    page.wait_fairly(settings.queue)
    return page


def _header(settings: Settings) -> str:
    person = who()
    named = PERSON.format(name=escape(person.name), role=person.role) if settings.login == "users" else ""
    return HEADER.format(device=ops.device_line(), person=named)


def _api(settings: Settings) -> None:
    for operation in ops.OPERATIONS.values():
        if operation.public:
            where = (
                {"concurrency_id": "device", "concurrency_limit": 1}
                if operation.heavy
                else {"concurrency_id": "desk", "concurrency_limit": 4}
            )
            # beside MCP tools of their own, the operations stay callable and are no tools
            seen = "undocumented" if settings.mcp else "public"
            gr.api(_endpoint(operation), api_name=operation.name, api_visibility=seen, **where)


def _endpoint(operation: ops.Operation) -> Any:
    def call(options: dict) -> dict:
        if not isinstance(options, dict):  # any JSON can be sent, whatever the annotation says
            raise LabError(f"The options of {operation.name} are one JSON object.")
        return {"result": operation.asked(options)}

    call.__name__ = operation.name
    call.__doc__ = (operation.fn.__doc__ or "").split("\n")[0]
    return guarded(call)


def launch_options(settings: Settings | None = None) -> dict[str, Any]:
    """How the page is served: nothing leaves this machine, nothing of the lab's own folder is served."""
    settings = settings or Settings()
    options: dict[str, Any] = {
        "theme": gr.themes.Default(
            primary_hue="indigo", neutral_hue="slate", spacing_size="sm", font=FONT, font_mono=MONO
        ),
        "css_paths": [CSS],
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": ["api"],
        # a picture has its own bound, checked before it is decoded
        "max_file_size": settings.upload_mib * 2**20,
        "blocked_paths": [str(home())],
        "show_error": True,
        "app_kwargs": {"routes": health.routes(settings), "middleware": [Middleware(Visitors)]},
        "mcp_server": settings.mcp,
        "state_session_capacity": PAGES,
    }
    if settings.login == "users":
        options |= {"auth": Users().accepts, "auth_message": "Name and password as you were given them."}
    return options


def launch(settings: Settings | None = None) -> None:
    """Serve the page until it is stopped.

    torch is imported and the first networks are made ready once the page is served, while a person still reads;
    they are compiled while nobody waits.
    """
    settings = settings or Settings.read()
    check(settings)
    page = build(settings)
    address = {"server_name": settings.host, "server_port": settings.port}
    with asked_to_stop() as stop:
        if space.is_zero():
            ops.warm_up()  # before anybody can come
        page.launch(**address, prevent_thread_lock=True, **launch_options(settings))
        if not space.is_zero():
            ops.warm_up()
            if os.environ.get("LAB_COMPILE", "1") != "0":
                ops.WORKSHOP.open()
        stop.wait()
        health.close(page)


def check(settings: Settings) -> None:
    """Refuse to serve what nobody could use."""
    if settings.login == "users" and not Users().all():
        raise LabError("There are no users yet; `python -m lab user add NAME` makes one.")
    if settings.mcp and importlib.util.find_spec("mcp") is None:
        raise LabError("MCP tools need one more package: pip install -r requirements-mcp.txt.")


@contextmanager
def asked_to_stop() -> Iterator[Event]:
    """An event that is set when the system, or Ctrl-C, asks this process to end."""
    stop = Event()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
