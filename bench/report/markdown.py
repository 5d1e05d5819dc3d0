"""Judgements as Markdown for a comment on a pull request: what needs a look first, the rest folded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.judgement import Judgement, Verdict
from bench.report import judgements as words
from bench.report.judgements import Report

LONGEST = 60_000  # characters: GitHub refuses a comment of more than 65,536

_SIGNS: Mapping[Verdict, str] = {
    "REGRESSED": "❌",
    "ERROR": "💥",
    "INCOMPARABLE": "❔",
    "INCONCLUSIVE": "❔",
    "PASS": "✅",
    "IMPROVED": "🚀",
}
_CLEAR: tuple[Verdict, ...] = ("PASS", "IMPROVED")
_IN_SIGHT = 20  # rows that are not folded
_CUT = "\n_Cut here: a comment has no room for more. The JUnit file and `--json` have all of it._\n"


def render(report: Report) -> str:
    """The comment, never longer than GitHub takes. Others' words in it are text: no markup, nobody is called."""
    ordered = words.worst_first(report.judgements)
    open_ones = [one for one in ordered if one.verdict not in _CLEAR]
    parts = [f"### {text(report.title)}", f"**{text(words.counts(ordered))}**"]
    if report.is_simulated:
        parts.append(f"> ⚠️ **{words.SIMULATED}**")
    parts += [f"> ⚠️ {text(line)}" for line in words.asides(report)]
    if open_ones:
        parts.append(_table(open_ones[:_IN_SIGHT]))
    folded = ordered if len(open_ones) > _IN_SIGHT else [one for one in ordered if one.verdict in _CLEAR]
    if folded:
        count = f"{len(folded)} workload{'' if len(folded) == 1 else 's'}"
        parts.append(_folded(count, _table(folded)))
    lines = [*words.reasons(ordered), f"{words.LEGEND}; {words.tolerance_words(ordered)}"]
    parts.append(_folded("Reasons and how to read this", "\n".join(f"- {text(line)}" for line in lines)))
    return _cut("\n\n".join(parts) + "\n")


def text(words_: str) -> str:
    """Others' words as plain text in one line: escaped, and no name or number in it becomes a link."""
    line = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", words_)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]~$!|])", r"\\\1", line)
    line = line.replace("://", ":<!-- -->//")  # no link
    return re.sub(r"[@#](?=\w)", lambda found: f"{found[0]}<!-- -->", line)  # no mention, no issue


def code(words_: str) -> str:
    """Others' words in a code span of a table's cell."""
    line = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", words_).replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def _table(judgements: Sequence[Judgement]) -> str:
    lines = [
        f"| workload | device | ratio | {words.confidence(judgements)} CI | finds | n | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in judgements:
        verdict = f"{_SIGNS[one.verdict]} {'missing' if one.is_missing else one.verdict}"
        figures = words.ratio(one), words.interval(one), words.detectable(one), str(one.n) if one.n else "–"
        lines.append(f"| {code(one.workload)} | {text(one.device)} | {' | '.join(figures)} | {verdict} |")
    return "\n".join(lines)


def _folded(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"


def _cut(comment: str) -> str:
    """Whole lines only, and what is folded is closed."""
    if len(comment) <= LONGEST:
        return comment
    kept = comment[: LONGEST - len(_CUT) - 40].rpartition("\n")[0]
    is_open = kept.count("<details>") > kept.count("</details>")
    return kept + "\n" + _CUT + ("\n</details>\n" if is_open else "")
