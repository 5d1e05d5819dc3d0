"""``Message``: a text in English that remembers its template and values, so that a page can say it in another language.

It is a ``str``, and whoever needs no other language takes it for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Message(str):
    """Made by `say` and `joined` alone."""

    template: str
    values: Mapping[str, object]


def say(template: str, **values: object) -> Message:
    """The template with its values in it. A value may be a message itself.

    A literal template belongs into each catalogue of ``bench/report/languages``; a test finds those that do not.
    """
    made = Message(template.format(**values))
    made.template, made.values = template, values
    return made


def joined(separator: str, parts: Iterable[str]) -> Message:
    """The parts that are not empty, with the separator between them."""
    values = {f"part_{index}": part for index, part in enumerate(filter(None, parts))}
    return say(separator.join(f"{{{name}}}" for name in values), **values)
