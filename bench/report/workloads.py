"""``docs/workloads.md``: the catalogue as a document, made of what the kernels say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.kernel import About
from bench.registry import Family, Workload
from bench.report.catalogue import memory_words, probe_words, roof_words, work_words
from bench.report.markdown import code
from bench.spec import Parameter, parameters, pattern

_HEAD = """# Workloads

What `vnbench list` shows, in full. `vnbench list --markdown` makes this page of what the kernels say of themselves, and
a test holds it to them.

A name is one-to-one with a workload's spec: the kernel's name, its axes between slashes, and after `@` the options that
are not at their default. Any name of that form can be run; those below are what is listed. `spec_id` is the hash of the
spec, and results are compared only where it is equal.

- **Work** is that of one launch, worked out from the parameters; "–" where it depends on the device.
- **Memory** is the most that preparing and checking take on the device: what has less free refuses the workload. "–"
  where that does not matter, or depends on the device.
- **Roofs** are the measured limits that the figure is held against; a run adds them. `<dtype>` and the like stand for
  the workload's own.
- **Tried first** is the same work at a small size: what it cannot do, the workload is not asked to do.
- **Version** is raised when the work changes, and `spec_id` changes with it."""


def markdown(families: Sequence[Family]) -> str:
    """A heading and a list of contents, then a section for each family."""
    contents = "\n".join(
        f"- [{one.kernel.name}](#{anchor(one.kernel.name)}): {_text(one.kernel.summary)}" for one in families
    )
    return "\n\n".join([_HEAD, contents, *map(_section, families)]) + "\n"


def anchor(heading: str) -> str:
    """Where GitHub lets a link to that heading lead: small letters, blanks as hyphens, no other punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(family: Family) -> str:
    kernel = family.kernel
    about = kernel.about or About("", {}, "", "", "")
    source = type(kernel).__module__.replace(".", "/") + ".py"
    summary = _sentence(_text(kernel.summary))
    name = code(pattern(kernel.name, kernel.params_type))
    meanings = [(one, about.parameters.get(one.name, "")) for one in parameters(kernel.params_type)]
    titled = {
        "Work": _text(about.work),
        "Roofs": _sentence(roof_words(family.workloads, code)) if family.workloads else "",
        "Check": _text(about.check),
        "Pitfalls": _text(about.pitfalls),
        "Tried first": _sentence(probe_words(family.workloads, code)) if family.workloads else "",
    }
    parts = [
        f"## {kernel.name}",
        f"{summary} {name}, version {kernel.version}, in [{source}](../{source}).",
        _titled("Stands for", _text(about.stands_for)),
        _table("parameter|kind|takes|default|meaning", (_parameter(*one) for one in meanings)),
        *(_titled(title, text) for title, text in titled.items()),
        _table("workload|work|memory|spec_id", map(_workload, family.workloads)) if family.workloads else "",
    ]
    return "\n\n".join(filter(None, parts))


def _titled(title: str, text: str) -> str:
    return f"**{title}.** {text}" if text else ""


def _parameter(parameter: Parameter, meaning: str) -> Sequence[str]:
    kind = "axis" if parameter.is_axis else "option"
    default = code(parameter.default) if parameter.default else ""
    return code(parameter.name), kind, code(parameter.takes), default, _text(meaning)


def _workload(workload: Workload) -> Sequence[str]:
    work = work_words(workload.kernel.work(workload.params))
    return code(workload.name), work, memory_words(workload), code(workload.spec.spec_id)


def _table(heads: str, rows: Iterable[Sequence[str]]) -> str:
    columns = heads.split("|")
    cells = [columns, ["---"] * len(columns), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _text(sentences: str) -> str:
    """A kernel's sentences: what stands between backticks is code, and nothing else is markup."""
    parts = sentences.split("`")
    return "`".join(part if index % 2 else _plain(part) for index, part in enumerate(parts))


def _plain(text: str) -> str:
    text = re.sub(r"([*~$])", r"\\\1", text.replace("<", "&lt;"))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside of a word it is no emphasis
