"""JUnit XML: valid whatever the text, with right counts, and each verdict as CI servers understand it."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import junit
from bench.report.judgements import Report
from tests.report.test_judgements import ALL, BROKEN, FAST, MISSING, OPEN, PASS, SLOW, UNLIKE, WHOLE

# The schema of Jenkins' xUnit plugin (junit-10.xsd): element → (required attributes, other attributes, elements in it).
# It lets `properties` stand in a test suite only; pytest puts them into test cases too, and so does this report.
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"properties", "skipped", "error", "failure", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "skipped": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "failure": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}


def parsed(report: Report = WHOLE) -> Element:
    return ElementTree.fromstring(junit.render(report))


def check(element: Element) -> None:
    required, allowed, inner = SCHEMA[element.tag]
    assert required <= set(element.keys()) <= required | allowed, element.attrib
    for child in element:
        assert child.tag in inner, (element.tag, child.tag)
        check(child)


def cases(root: Element) -> dict[str, Element]:
    return {case.attrib["name"] + case.attrib["classname"]: case for case in root.iter("testcase")}


@pytest.mark.parametrize("report", [WHOLE, Report("empty", []), Report("one", [PASS])])
def test_it_follows_the_schema(report: Report) -> None:
    root = parsed(report)
    assert root.tag == "testsuites"
    check(root)


@pytest.mark.parametrize(
    ("one", "element", "kind"),
    [
        (SLOW, "failure", "REGRESSED"),
        (BROKEN, "error", "ERROR"),
        (OPEN, "skipped", "INCONCLUSIVE"),
        (UNLIKE, "skipped", "INCOMPARABLE"),
        (MISSING, "skipped", "missing"),
        (PASS, None, ""),
        (FAST, None, ""),
    ],
)
def test_each_verdict_is_what_a_server_understands(one: object, element: str | None, kind: str) -> None:
    assert isinstance(one, type(PASS))
    (case,) = parsed(Report("t", [one])).iter("testcase")
    assert [child.tag for child in case if child.tag in ("failure", "error", "skipped")] == [element] * bool(element)
    if element:
        outcome = case.find(element)
        assert outcome is not None and outcome.attrib["type"] == kind
        assert outcome.attrib["message"] == outcome.text
        assert outcome.attrib["message"].endswith(one.reason)


def test_the_counts_are_those_of_the_cases() -> None:
    root = parsed()
    (suite,) = root
    counted = {
        "tests": len(list(suite.iter("testcase"))),
        "failures": len(list(suite.iter("failure"))),
        "errors": len(list(suite.iter("error"))),
        "skipped": len(list(suite.iter("skipped"))),
    }
    assert counted == {"tests": 7, "failures": 1, "errors": 1, "skipped": 3}
    assert {name: int(suite.attrib[name]) for name in counted} == counted
    assert {name: int(root.attrib[name]) for name in ("tests", "failures", "errors")} == {
        "tests": 7,
        "failures": 1,
        "errors": 1,
    }


def test_a_case_is_a_workload_on_a_device_with_its_figures_as_properties() -> None:
    case = cases(parsed())["matmul/bf16/4096vnbench.cuda:0"]
    found = {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
    assert found == {
        "verdict": "REGRESSED",
        "ratio": "1.05",
        "interval_low": "1.04",
        "interval_high": "1.06",
        "confidence": "0.95",
        "n": "5",
        "p": "0.001",
        "tolerance": "0.02",
        "detectable_ratio": "1.031",
        "reason": "confirmed by a second measurement",
    }
    out = case.findtext("system-out")
    assert out is not None and "ratio: 1.05\n" in out


def test_what_is_unknown_has_no_property() -> None:
    case = cases(parsed())[f"{MISSING.workload}vnbench.cuda:15"]
    assert "ratio" not in {one.attrib["name"] for one in case.iter("property")}


def test_notes_and_what_makes_the_machine_unfit_are_the_suites_output() -> None:
    out = parsed().findtext("testsuite/system-out")
    assert out is not None
    assert out.startswith("SIMULATED") and "unfit:steal (baseline, current)" in out and "note: another node" in out


@given(st.text(st.characters(codec=None)))
def test_it_is_valid_xml_whatever_the_text(text: str) -> None:
    one = dataclasses.replace(SLOW, workload=text, device=text, reason=text)
    (case,) = parsed(Report(text, [one], {text: (text,)}, [text])).iter("testcase")
    kept = [sign for sign in text if sign.isprintable() and not "\ud800" <= sign <= "\udfff"]
    assert all(sign in case.attrib["name"] for sign in kept if sign not in "\ufffe\uffff")


def test_control_characters_and_markup_are_neutral() -> None:
    (case,) = parsed(Report("t", [dataclasses.replace(BROKEN, reason='\x00\x1b[31m ]]> <a b="c"> & \ud800 é')])).iter(
        "testcase"
    )
    error = case.find("error")
    assert error is not None and error.text == 'ERROR: \ufffd\ufffd[31m ]]> <a b="c"> & \ufffd é'


def test_the_same_report_has_the_same_bytes() -> None:
    assert junit.render(WHOLE) == junit.render(Report(WHOLE.title, ALL[::-1], WHOLE.unfit, WHOLE.notes, True))
