"""Drawing by matplotlib: without a display, without its user's settings, and the same bytes for the same picture."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SETTINGS: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "svg.hashsalt": "vnbench",  # the same picture has the same bytes
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a dollar sign in others' words is one
}


def kind_of(path: Path) -> str:
    """What kind of picture a file's name asks for, as `image` knows it.

    Raises:
        UsageError: none that can be drawn.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"{path}: a picture is a PNG or an SVG file", "End its name in .png or .svg")
    return kind


@contextlib.contextmanager
def settings(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """The house's settings, and more of a picture's own.

    Raises:
        UsageError: matplotlib is not installed.
    """
    # It would warn that it has no folder for its settings; it needs none.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib as mpl
        import matplotlib.style
    except ImportError as error:
        raise UsageError("a picture needs matplotlib, which is not installed", "pip install matplotlib") from error
    values: dict[Any, Any] = {**_SETTINGS, **(more or {})}
    with mpl.style.context("default"), mpl.rc_context(values), warnings.catch_warnings():
        # A name in a script that the font lacks: an SVG keeps its text, a PNG shows boxes, and a warning helps nobody.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def image(draw: Callable[[], Figure], kind: str) -> bytes:
    """The bytes of a figure; ``kind`` is png or svg.

    Raises:
        UsageError: matplotlib is not installed.
    """
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    content = io.BytesIO()
    with settings():
        figure = draw()
        settle(figure)
        figure.savefig(content, format=kind, dpi=120, metadata=metadata)
    return content.getvalue()


def settle(figure: Figure) -> None:
    """Lay the figure out once, and round: the solver's last digits differ from time to time, and so would the bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(float(part), 6) for part in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))
