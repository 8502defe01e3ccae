"""PixelPad: paint a trigger one pixel at a time."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

_JS = Path(__file__).with_name("pixelpad.js").read_text(encoding="utf-8")
_NUMBERS = count()  # tells the pads of one page apart


class PixelPad(gr.HTML):
    """Paint single pixels on a square canvas.

    The value is a list of ``[x, y, "#rrggbb"]``, one for each painted pixel, in reading order; (0, 0) is
    the top left and a pixel that is not listed is transparent. It arrives unchecked: any JSON can be
    sent to an endpoint; the `paint` operation checks it.

    `size`, `backdrop` and `value` can be set later with ``gr.update(size=28, backdrop="", value=[])``; name
    size and backdrop together. Pixels outside a new size are not shown and not sent again. An ``input`` event
    needs trigger_mode "always_last", or it misses a stroke made while the one before is still on its way.
    """

    def __init__(
        self,
        value: list[list[Any]] | None = None,
        *,
        size: int = 32,  # pixels a side
        backdrop: str = "",  # data URI drawn faintly under the painting, "" for none
        label: str = "Trigger pixels",
        **html: Any,  # elem_id, visible, ... of gr.HTML
    ) -> None:
        # gr.HTML takes any name that it does not know for an event, so that without these two its description of the
        # page would hold events in place of numbers, and be copied at length on every visit.
        self.size, self.backdrop = size, backdrop
        super().__init__(
            value=value or [],
            label=label,
            html_template=f'<div class="pad" data-pad="{next(_NUMBERS)}" data-size="{size}"></div>',
            js_on_load=_JS,
            apply_default_css=False,
            size=size,
            backdrop=backdrop,
            **html,
        )

    def api_info(self) -> dict[str, Any]:
        """Describe the value to API users: a list of [x, y, "#rrggbb"]."""
        pixel = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}
        return {"type": "array", "items": pixel, "description": 'painted pixels as [x, y, "#rrggbb"]'}

    def example_payload(self) -> list[list[Any]]:
        """A value as a client sends it."""
        return [[2, 3, "#808080"]]

    def example_value(self) -> list[list[Any]]:
        """A value as a handler returns it."""
        return [[2, 3, "#808080"]]
