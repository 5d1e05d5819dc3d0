"""A page that needs nothing else: no network, no script, no font. Others' words in it are text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # no text of HTML


@dataclass(frozen=True)
class Picture:
    title: str
    text: str  # what is to be seen, for who cannot see it
    svg: str
    note: str = ""


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page that a template makes of its content.

    Raises:
        UsageError: Jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(f"a page needs {error.name}, which is not installed", f"pip install {error.name}") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report", "templates"),
        autoescape=True,  # names and labels are others' words
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = _svg
    text = environment.get_template(template).render(content) + "\n"
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _svg(picture: Picture, prefix: str) -> Any:
    """The picture for the inside of the page: with its words for who cannot see it, and names of its own."""
    from markupsafe import Markup

    words = Markup(' role="img" aria-label="{}" id="{}"').format(picture.text, prefix)  # escapes both
    tags = re.compile(r"<[^>]*>")
    names = re.compile(r'(\bid="|="#|url\(#)')
    own = tags.sub(lambda tag: names.sub(rf"\1{prefix}-", tag[0]), picture.svg)
    return Markup(own.replace("<svg", f"<svg{words}", 1))
