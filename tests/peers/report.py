"""The table of docs/peers.md, from a recording: ``python -m tests.peers --table``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import stats
from bench.stats import RatioTest
from bench.units import show
from tests.peers.lines import Line
from tests.peers.recording import ROOT, Recording

DOCUMENT = ROOT / "docs" / "peers.md"
_HEAD = "| work | ours | of the limit | peer | theirs | ours : theirs | sessions |"


@dataclass(frozen=True)
class Comparison:
    """A workload of ours beside a peer, over all sessions; rates per second, None where the peer was not measured."""

    workload: str
    peer: str
    unit: str
    ours: float | None
    of_limit: float | None  # the share of what ours would reach at the roof
    theirs: float | None
    test: RatioTest | None  # our rate over theirs
    sessions: int
    reason: str = ""  # why there is no figure

    @property
    def is_behind(self) -> bool:
        return self.test is not None and self.test.interval.high < 1


def comparisons(recording: Recording, lines: Sequence[Line]) -> list[Comparison]:
    """Every line that was begun, or that is known not to be measurable."""
    found = []
    for line in lines:
        reasons = dict(recording.failed.get(line.name, {}))
        reasons |= {
            peer.name: f"not installed: {recording.absent[peer.environment]}"
            for peer in line.peers
            if peer.environment in recording.absent
        }
        if recording.of(line.name) or reasons:
            found += [
                _compared(recording, line, workload, peer.name, reasons.get(peer.name) or reasons.get("ours", ""))
                for workload in line.ours
                for peer in line.peers
            ]
    return found


def _compared(recording: Recording, line: Line, workload: str, peer: str, reason: str) -> Comparison:
    sessions = recording.of(line.name)
    both = [one for one in sessions if peer in one["log_ratios"].get(workload, {})]
    ours = [one["ours"][workload] for one in sessions]
    limited = [one for one in sessions if workload in one["limit"]]
    return Comparison(
        workload,
        peer,
        line.unit,
        stats.geometric_mean(ours) if ours else None,
        stats.geometric_mean([one["ours"][workload] / one["limit"][workload] for one in limited]) if limited else None,
        stats.geometric_mean([one["peers"][peer] for one in both]) if both else None,
        stats.ratio_test([one["log_ratios"][workload][peer] for one in both]),
        len(both),
        "" if both else reason or "not measured",
    )


def markdown(recording: Recording, lines: Sequence[Line]) -> str:
    rows = [_HEAD, "| --- |" + " --- |" * (_HEAD.count("|") - 2)]
    for one in comparisons(recording, lines):
        share = "–" if one.of_limit is None else f"{one.of_limit:.0%}"
        cells = [f"`{one.workload}`", show(one.ours, one.unit, 3), share, one.peer]
        cells += [show(one.theirs, one.unit, 3), _ratio(one), str(one.sessions)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _ratio(one: Comparison) -> str:
    """With its 95 % interval, and in bold where ours is behind."""
    if one.reason:
        return one.reason.replace("|", "/")
    if one.test is None:
        return "too few sessions"
    low, high = one.test.interval.low, one.test.interval.high
    words = f"{one.test.ratio:.2f} ({low:.2f}–{high:.2f})" if math.isfinite(high) else f"{one.test.ratio:.2f}"
    return f"**{words}**" if one.is_behind else words


def machine(recording: Recording) -> str:
    """What it was recorded on, when, and with which versions."""
    facts = recording.machine
    if not recording.sessions:
        return "Not recorded yet."
    dates = sorted({one["at"][:10] for one in recording.sessions})
    taken = f"Recorded on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
    versions = {name: version for its in recording.versions.values() for name, version in its.items()}
    limits = [
        f"`{roof}` is `{one['candidate']}`, the best of {one['tried']} tried in {one['spent_s']:.0f} s"
        for roof, one in recording.limits.items()
        if "tried" in one
    ]
    lines = [
        f"{taken} at commit {facts['commit']}: {facts['name']}, {facts['threads']} threads, "
        f"{facts['memory_bytes'] / 2**30:.0f} GiB, {facts['os']}, Python {facts['python']}, {facts['compiler']}.",
        "Peers: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
    ]
    return "\n".join([*lines, *([f"Limits: {'; '.join(limits)}."] if limits else [])])


def document(text: str, recording: Recording, lines: Sequence[Line]) -> str:
    """The page with its generated parts made anew."""
    for name, part in (("machine", machine(recording)), ("table", markdown(recording, lines))):
        block = f"<!-- {name} -->\n{part}\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->\n.*?<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL)  # noqa: B023
        assert count == 1, name
    return text


def write(recording: Recording, lines: Sequence[Line], path: Path = DOCUMENT) -> None:
    path.write_text(document(path.read_text(), recording, lines))
