"""``Spec``: a workload's versioned description, its name, and the hash that says two are alike.

A workload's name is one-to-one with its spec. A kernel declares its parameters as a frozen dataclass; each
field is an ``axis`` (a path element, in order) or an ``option`` (``@key=value``, left out at its default):

    @dataclass(frozen=True)
    class DecodeParams:
        model: str = axis(choices=("tiny",))          # decode/tiny/b1/ctx512
        batch: int = axis(prefix="b")
        context: int = axis(prefix="ctx")
        steps: int = option(32)                        # decode/tiny/b1/ctx512@steps=64

Fields named ``dtype``, ``backend`` and ``cache`` get columns of their own; the others are ``params``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.errors import UsageError

ID_LENGTH = 16  # hex digits kept of a SHA-256: 64 bits, ample for a catalogue
SEED = 0  # every workload's data; part of the spec, so changing it makes another workload

_COLUMNS = ("dtype", "backend", "cache")

P = TypeVar("P")


@dataclass(frozen=True)
class Spec:
    """What is measured, and nothing about where or how often."""

    kernel: str
    version: int
    params: Mapping[str, Any]
    dtype: str | None = None
    backend: str | None = None
    cache: str | None = None
    seed: int = SEED

    @property
    def spec_id(self) -> str:
        """Equal for equal work on any machine and Python: a hash of the canonical JSON."""
        return content_id(dataclasses.asdict(self))


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no blanks, plain ASCII and no NaN: the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_id(value: object) -> str:
    """The first 16 hex digits of the SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class _Codec:
    """How one field is written in a name."""

    is_axis: bool
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    hint: str
    takes_rest: bool = False


def axis(
    *,
    prefix: str = "",
    choices: Sequence[str] = (),
    parse: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] = str,
    hint: str = "",
    rest: bool = False,
) -> Any:
    """A path element of the name: a positive integer behind ``prefix``, one of ``choices``, or ``parse``'s result.

    ``parse`` raises ``ValueError`` for text it does not take; ``hint`` says what it would take. With ``rest``, the last
    axis is all that is left of the name, slashes included.
    """
    if choices:
        codec = _Codec(True, _one_of(choices), str, " | ".join(choices))
    elif parse is not None:
        codec = _Codec(True, parse, show, hint, rest)
    else:
        codec = _Codec(True, _integer(prefix, 1), lambda value: f"{prefix}{value}", f"{prefix}<number>")
    return dataclasses.field(metadata={"codec": codec})


def option(
    default: Any,
    *,
    choices: Sequence[str] = (),
    parse: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] = str,
    hint: str = "",
    added_later: bool = False,
) -> Any:
    """An ``@key=value`` of the name, left out where it has its default.

    One that is ``added_later`` is left out of the spec there, too: the workloads that were there before it keep their
    ``spec_id``.
    """
    if choices:
        codec = _Codec(False, _one_of(choices), str, " | ".join(choices))
    elif parse is not None:
        codec = _Codec(False, parse, show, hint)
    elif isinstance(default, int):
        codec = _Codec(False, _integer("", 0), str, "<number>")
    else:
        codec = _Codec(False, str, str, "<text>")
    return dataclasses.field(default=default, metadata={"codec": codec, "added_later": added_later})


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _integer(prefix: str, least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.removeprefix(prefix)
        number = int(digits)
        # Only the canonical spelling is taken: no "+1", "01" or "1_0", or a name would not be one-to-one.
        if f"{prefix}{number}" != text or number < least:
            raise ValueError(text)
        return number

    return parse


def _codec(field: dataclasses.Field[Any]) -> _Codec:
    codec: _Codec = field.metadata["codec"]
    return codec


@dataclass(frozen=True)
class Parameter:
    """An axis or an option, as people are told of it."""

    name: str
    is_axis: bool
    takes: str  # what may stand in a name: "fp32 | bf16", "b<number>"
    default: str | None  # of an option, as a name would have it; None where leaving it out is all there is


def parameters(params_type: type[Any]) -> tuple[Parameter, ...]:
    """The axes and options of a kernel, in the order of a name."""
    return tuple(_parameter(field) for field in dataclasses.fields(params_type))


def _parameter(field: dataclasses.Field[Any]) -> Parameter:
    codec = _codec(field)
    default = None if codec.is_axis or field.default is None else codec.show(field.default)
    return Parameter(field.name, codec.is_axis, codec.hint, default)


def written(params: Any) -> dict[str, str]:
    """Each axis and option as a name has it, or would; what has no value is left out."""
    fields = [field for field in dataclasses.fields(params) if getattr(params, field.name) is not None]
    return {field.name: _codec(field).show(getattr(params, field.name)) for field in fields}


def pattern(kernel: str, params_type: type[Any]) -> str:
    """How a kernel's workloads are named: ``matmul/<dtype>/<shape>[@backend=...]``."""
    fields = dataclasses.fields(params_type)
    axes = "".join(f"/<{field.name}>" for field in fields if _codec(field).is_axis)
    options = ",".join(f"{field.name}=…" for field in fields if not _codec(field).is_axis)
    return f"{kernel}{axes}" + (f"[@{options}]" if options else "")


def workload_name(kernel: str, params: Any) -> str:
    """The canonical name of a kernel with these parameters."""
    axes, options = [kernel], []
    for field in dataclasses.fields(params):
        value, codec = getattr(params, field.name), _codec(field)
        if codec.is_axis:
            axes.append(codec.show(value))
        elif value != field.default:
            options.append(f"{field.name}={codec.show(value)}")
    return "/".join(axes) + ("@" + ",".join(options) if options else "")


def parse_params(kernel: str, params_type: type[P], name: str) -> P:
    """The parameters behind a workload's name.

    Raises:
        UsageError: an axis is missing, surplus or not of its kind, or an option is unknown.
    """
    path, _, option_text = name.removeprefix(kernel).partition("@")
    texts = [text for text in path.split("/") if text]
    fields = dataclasses.fields(params_type)  # type: ignore[arg-type]
    axes = [field for field in fields if _codec(field).is_axis]
    by_option = {field.name: field for field in fields if not _codec(field).is_axis}
    if axes and _codec(axes[-1]).takes_rest and len(texts) > len(axes):
        texts[len(axes) - 1 :] = ["/".join(texts[len(axes) - 1 :])]
    if len(texts) != len(axes):
        raise UsageError(f"{name!r} has {len(texts)} of {len(axes)} axes", f"Write {pattern(kernel, params_type)}")
    values = {field.name: _parse_field(name, field, text) for field, text in zip(axes, texts, strict=True)}
    for item in filter(None, option_text.split(",")):
        key, _, text = item.partition("=")
        if key not in by_option or key in values:
            raise UsageError(f"{name!r}: no option {key!r} here", f"Write {pattern(kernel, params_type)}")
        values[key] = _parse_field(name, by_option[key], text)
    return params_type(**values)


def _parse_field(name: str, field: dataclasses.Field[Any], text: str) -> Any:
    codec = _codec(field)
    try:
        return codec.parse(text)
    except ValueError:
        raise UsageError(f"{name!r}: {text!r} is no {field.name}", f"It is one of: {codec.hint}") from None


def spec_of(kernel: str, version: int, params: Any) -> Spec:
    """The spec of a kernel with these parameters, at the standard seed."""
    values = dataclasses.asdict(params)
    for field in dataclasses.fields(params):
        if field.metadata.get("added_later") and getattr(params, field.name) == field.default:
            del values[field.name]
    columns = {key: values.pop(key) for key in _COLUMNS if key in values}
    return Spec(kernel=kernel, version=version, params=values, **columns)
