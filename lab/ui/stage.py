"""Stage: the pictures of slots A and B, and the film of their denoising."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_JS = Path(__file__).with_name("stage.js").read_text(encoding="utf-8")


class Stage(gr.HTML):
    """Show grids of pictures for each slot side by side, with one scrubber for all of them.

    The value is one JSON object; pictures are data URIs (PNG). Everything but ``columns`` may be left out::

        {"columns": [{"title": "A", "name": "mnist-clean", "badge": "clean" | "backdoored" | "unknown",
                      "rows": [{"key": "A-clean", "label": "clean noise", "image": "data:..." or None,
                                "state": "waiting" | "running" | "done" | "stopped",
                                "aspect": 4.0,  # of this row's picture, where it differs from the others
                                "note": "success 0 of 16", "verdict": "target" | "no target" | ""}]}],
         "aspect": 1.0,  # width / height of every picture, keeps their place free until they come
         "film": {"total": 1000, "frames": [{"t": 996, "cells": {"A-clean": {"x_t": ..., "x_0": ...}}}]},
         "progress": {"step": 120, "total": 1000, "text": "B, triggered noise: step 120 of 250"}}

    Row keys are unique on the stage. Frames go from noise (large t) to picture; the scrubber's last place
    shows the rows' own images. Scrubbing happens in the browser alone.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        **html: Any,  # elem_id, visible, ... of gr.HTML
    ) -> None:
        super().__init__(
            value=value or {},
            html_template='<div class="stage"></div>',
            js_on_load=_JS,
            apply_default_css=False,
            **html,
        )

    def api_info(self) -> dict[str, Any]:
        """Describe the value to API users: one JSON object."""
        return {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": {"type": "object"}},
                "aspect": {"type": "number"},
                "film": {"anyOf": [{"type": "object"}, {"type": "null"}]},
                "progress": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            },
            "description": "pictures of each slot, the film of their denoising, and progress",
        }

    def example_payload(self) -> dict[str, Any]:
        """A value as a client sends it."""
        return {"columns": []}

    def example_value(self) -> dict[str, Any]:
        """A value as a handler returns it."""
        return {"columns": []}
