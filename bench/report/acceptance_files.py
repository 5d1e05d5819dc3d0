"""A verdict as files: the page that people sign, Markdown for a ticket, JUnit XML for CI."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from bench.acceptance.dossier import Dossier
from bench.acceptance.model import WORST_FIRST, Finding, Judged
from bench.files import write_report
from bench.report import acceptance as figures
from bench.report import criteria as words
from bench.report import junit as xml
from bench.report.language import Language, load
from bench.report.markdown import code, text

_SIGNS = {"PASS": "✅", "FAIL": "❌", "ERROR": "💥", "INCONCLUSIVE": "❔"}
_ELEMENTS = {"FAIL": "failure", "ERROR": "error", "INCONCLUSIVE": "skipped"}


def write(
    dossier: Dossier, *, html: Path | None = None, markdown: Path | None = None, junit: Path | None = None, lang: str
) -> None:
    """Write those that were asked for, each whole or not at all. JUnit is English: programs read it.

    Raises:
        OutputNotWritable: a file cannot be written.
        UsageError: Jinja2, Babel or matplotlib is not installed.
    """
    if html:
        from bench.report import acceptance_page

        write_report(html, acceptance_page.render(dossier, load(lang)).encode())
    if markdown:
        write_report(markdown, to_markdown(dossier, load(lang)).encode())
    if junit:
        write_report(junit, to_junit(dossier))


def to_markdown(dossier: Dossier, language: Language) -> str:
    """The verdict, a line for each criterion, and why any is no PASS. Others' words in it are text."""
    verdict = dossier.verdict
    stamp = language.say("SIMULATED") + " " if verdict.simulated else ""
    outcome = language.text(figures.OUTCOMES[verdict.outcome])
    lines = [
        f"### {_SIGNS[verdict.outcome]} {stamp}{outcome}: {text(dossier.criteria.title)}",
        "",
        text(
            language.say(
                "run {run} on node {node}, {when}",
                run=verdict.run_id,
                node=verdict.node,
                when=language.moment(dossier.plan.started_at),
            )
        ),
        *(["", f"> ⚠️ **{text(language.text(figures.SIMULATED))}**"] if verdict.simulated else []),
        "",
        _row(language.say(head) for head in ("criterion", "worst device", "observed", "interval", "limit", "verdict")),
        "| --- | --- | ---: | ---: | --- | --- |",
        *(_line(one, language) for one in verdict.criteria),
    ]
    if reasons := figures.reasons(verdict, language):
        lines += ["", *(f"- {text(one)}" for one in reasons)]
    hashes = f"result SHA-256 {dossier.result_sha256}  \ncriteria SHA-256 {dossier.criteria.sha256}"
    return "\n".join([*lines, "", hashes, ""])


def _line(one: Judged, language: Language) -> str:
    worst, criterion = one.worst, one.criterion
    limit = words.limit(criterion, language) if criterion.limit.stated else "–"
    cells = (
        text(worst.device),
        text(words.value_words(criterion, worst.observed, language)),
        figures.interval_words(criterion, worst, language),
        text(limit),
        f"{_SIGNS[one.outcome]} {language.text(figures.OUTCOMES[one.outcome])}",
    )
    return _row((code(criterion.id), *cells))


def _row(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def to_junit(dossier: Dossier) -> bytes:
    """A test case per criterion and device, by the schema that `bench.report.junit` names."""
    verdict = dossier.verdict
    every = [(one, each) for one in verdict.criteria for each in one.findings]
    every.sort(key=lambda pair: WORST_FIRST.index(pair[1].outcome))
    kinds = Counter(_ELEMENTS.get(each.outcome) for _, each in every)
    totals = {"tests": len(every), "failures": kinds["failure"], "errors": kinds["error"]}
    root = xml.element("testsuites", name="vnbench", **totals)
    title = f"{'SIMULATED ' if verdict.simulated else ''}{verdict.outcome}: {dossier.criteria.title}"
    suite = xml.element("testsuite", name=title, **totals, skipped=kinds["skipped"], time=0)
    root.append(suite)
    suite.extend(_test_case(one, each) for one, each in every)
    said = [*([figures.SIMULATED] if verdict.simulated else []), f"run {verdict.run_id} on node {verdict.node}"]
    hashes = [f"result SHA-256 {dossier.result_sha256}", f"criteria SHA-256 {dossier.criteria.sha256}"]
    xml.text(suite, "system-out", "\n".join([*said, *hashes]))
    return xml.encoded(root)


def _test_case(one: Judged, each: Finding) -> ElementTree.Element:
    case = xml.element("testcase", classname=f"vnbench.{each.device}", name=one.criterion.id, time=0)
    found = {
        "verdict": each.outcome,
        "observed": words.value_words(one.criterion, each.observed),
        "interval": figures.interval_words(one.criterion, each),
        "limit": words.limit(one.criterion) if one.criterion.limit.stated else "–",
        "n": each.n,
        "source": one.criterion.source,
    }
    xml.add_properties(case, found)
    if each.outcome in _ELEMENTS:
        message = f"{each.outcome}: observed {found['observed']}, limit {found['limit']}: {each.words}"
        outcome = xml.element(_ELEMENTS[each.outcome], type=each.outcome, message=message)
        outcome.text = xml.clean(message)
        case.append(outcome)
    xml.text(case, "system-out", "\n".join(f"{name}: {value}" for name, value in found.items()))
    return case
