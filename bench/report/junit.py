"""Judgements as JUnit XML, as CI servers read it: a test case per workload and device.

REGRESSED is a failure and ERROR an error. INCONCLUSIVE, INCOMPARABLE and missing are skipped, with the reason: they are
no pass, and the exit code (6) says so to a server that counts skipped tests as harmless. Elements and attributes are
those of the schema of Jenkins' xUnit plugin (junit-10.xsd), and the properties of a test case those that pytest
writes, which Jenkins' JUnit plugin keeps; servers that know none (GitLab) find the same figures in ``system-out``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from xml.etree import ElementTree

from bench.judgement import Judgement, Verdict
from bench.report.judgements import SIMULATED, Report, asides, worst_first

_ELEMENTS: Mapping[Verdict, str] = {
    "REGRESSED": "failure",
    "ERROR": "error",
    "INCONCLUSIVE": "skipped",
    "INCOMPARABLE": "skipped",
}
# What XML 1.0 cannot hold, not even as a reference (https://www.w3.org/TR/xml/#charsets).
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> bytes:
    """The file's bytes; the same report gives the same ones."""
    judgements = report.judgements
    kinds = Counter(_ELEMENTS.get(one.verdict) for one in judgements)
    totals = {"tests": len(judgements), "failures": kinds["failure"], "errors": kinds["error"]}
    root = element("testsuites", name="vnbench", **totals)
    suite = element("testsuite", name=report.title, **totals, skipped=kinds["skipped"], time=0)
    root.append(suite)
    suite.extend(_test_case(one) for one in worst_first(judgements))
    lines = [*([SIMULATED] if report.is_simulated else []), *asides(report)]
    if lines:
        text(suite, "system-out", "\n".join(lines))
    return encoded(root)


def _test_case(one: Judgement) -> ElementTree.Element:
    case = element("testcase", classname=f"vnbench.{one.device}", name=one.workload, time=0)
    figures = _figures(one)
    add_properties(case, figures)
    if one.verdict in _ELEMENTS:
        kind = "missing" if one.is_missing else one.verdict
        message = ": ".join(filter(None, [kind, _measured(one), one.reason]))
        outcome = element(_ELEMENTS[one.verdict], type=kind, message=message)
        outcome.text = clean(message)  # GitLab shows the text, Jenkins the message
        case.append(outcome)
    text(case, "system-out", "\n".join(f"{name}: {value}" for name, value in figures.items()))
    return case


def _figures(one: Judgement) -> dict[str, str]:
    """Unrounded; what is unknown is left out."""
    found = {
        "verdict": one.verdict,
        "ratio": one.ratio,
        "interval_low": one.interval and one.interval.low,
        "interval_high": one.interval and one.interval.high,
        "confidence": one.interval and one.interval.confidence,
        "n": one.n,
        "p": one.p,
        "tolerance": one.tolerance,
        "detectable_ratio": one.detectable,
        "reason": one.reason or None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _measured(one: Judgement) -> str:
    if one.ratio is None or one.interval is None:
        return ""
    low, high = one.interval.low, one.interval.high
    return f"ratio {one.ratio:.3f} ({low:.3f}–{high:.3f}, n = {one.n})"


def encoded(root: ElementTree.Element) -> bytes:
    """The file of a tree, indented."""
    ElementTree.indent(root)
    return b"<?xml version='1.0' encoding='utf-8'?>\n%b\n" % ElementTree.tostring(root, encoding="unicode").encode()


def add_properties(case: ElementTree.Element, figures: Mapping[str, object]) -> None:
    properties = ElementTree.SubElement(case, "properties")
    properties.extend(element("property", name=name, value=value) for name, value in figures.items())


def element(tag: str, **attributes: object) -> ElementTree.Element:
    """An element without what XML cannot hold, as are `text` and `clean`."""
    return ElementTree.Element(tag, {name: clean(str(value)) for name, value in attributes.items()})


def text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = clean(text)


def clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
