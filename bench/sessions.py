"""From the rows of A/B sessions to verdicts; pure, so that what was measured can be judged again at any time.

A session's log-ratio is the one observation: samples inside it are never treated as independent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench import fitness, sequential, stats
from bench.errors import UnreadableResult
from bench.judgement import Judgement, Verdict
from bench.schema import Row
from bench.sequential import Decision, Design
from bench.stats import Interval
from bench.types import FAILURES, Plan, Trial


@dataclass(frozen=True)
class Sessions:
    """What was measured of one workload: a log-ratio of badness per session, in the order of the sessions."""

    workload: str
    device: str
    log_ratios: tuple[float, ...]
    obstacle: Row | None = None  # the row of an arm that could not be measured


@dataclass(frozen=True)
class Noise:
    """What an A/A test says of a machine: both arms were alike, so every clear answer is a false alarm."""

    workload: str
    device: str
    sessions: int
    log_sd: float | None  # of a session's log-ratio
    detectable: float | None  # the smallest ratio that a test of all planned sessions finds 80 % of the time
    trials: int
    false_alarms: Interval | None  # the share of trials with one, by Clopper and Pearson
    alarms: int
    decided: int  # trials that ended with PASS


def names(plan: Plan, kind: str) -> tuple[str, ...]:
    """What a test on such a device asks about: workloads, or one thing where the arms have workloads of their own."""
    asked = plan.workloads[kind]
    return (" : ".join(asked),) if plan.arms[0].workload else asked


def collect(plan: Plan, rows: Iterable[Row]) -> list[Sessions]:
    """The sessions in which both arms were measured, of all that the plan asks about.

    Raises:
        UnreadableResult: the samples of a row are not what its other columns say.
    """
    by_key: dict[tuple[str, str], dict[int, dict[str, Row]]] = {
        (name, device.label): {} for device in plan.devices for name in names(plan, device.kind)
    }
    for row in rows:
        device = row["device"] if row["device"] == "cpu" else f"{row['device']}:{row['device_index']}"
        name = names(plan, row["device"])[0] if plan.arms[0].workload else row["workload"]
        by_key.setdefault((name, device), {}).setdefault(row["session"], {})[row["arm"]] = row
    return [_sessions(plan, *key, [found[number] for number in sorted(found)]) for key, found in by_key.items()]


def _sessions(plan: Plan, workload: str, device: str, pairs: Sequence[Mapping[str, Row]]) -> Sessions:
    whole = [
        arms for arms in pairs if arms.keys() >= {"A", "B"} and all(row["status"] == "ok" for row in arms.values())
    ]
    for row in (row for arms in whole for row in arms.values()):
        if not (row["elapsed_ns"] and row["burst_samples"]) or len(row["elapsed_ns"]) % row["burst_samples"]:
            raise UnreadableResult(f"run {plan.run_id}: session {row['session']} of {workload} has no whole bursts")
        if row["value"] is None or row["median_ns"] is None:
            raise UnreadableResult(f"run {plan.run_id}: session {row['session']} of {workload} has no figure")
    bad = [row for arms in pairs for row in arms.values() if row["status"] != "ok"]
    bad += [_unlike(**arms) for arms in whole if arms["A"]["unit"] != arms["B"]["unit"]]
    return Sessions(workload, device, tuple(log_ratio(arms["A"], arms["B"]) for arms in whole), bad[0] if bad else None)


def log_ratio(a: Row, b: Row) -> float:
    """How much worse B was than A in one session: the median over its pairs of the log-ratio of the bursts' quartiles.

    Each burst is held against the one beside it, so that a machine that drifts moves both, and stands for itself with
    the lower quartile of its samples: what else runs on the machine only ever makes samples longer. Time is per
    unit of work. docs/proof.md has what other figures in its place would have seen.
    """
    import numpy as np

    a_ns, b_ns = (
        np.quantile(np.reshape(row["elapsed_ns"], (-1, row["burst_samples"])), 0.25, axis=1) for row in (a, b)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(b_ns / a_ns)
        return float(np.median(ratios) + np.log(np.divide(_work(a), _work(b))))


def settle(
    log_ratios: Mapping[str, Sequence[float]], trial: Trial, planned: int | None = None
) -> dict[str, tuple[Decision, float]]:
    """The decision on each workload and the alpha that it was taken at.

    Holm's step-down procedure over workloads: all begin at alpha / m; each that shows a change leaves more to the rest.
    The intervals are at the alpha of their own decision, so that test and interval stay one.

    Args:
        planned: how many workloads were asked about, those included that could not be measured.
    """
    count = max(planned or 0, len(log_ratios), 1)
    alphas = dict.fromkeys(log_ratios, trial.alpha / count)
    while True:
        decisions = {
            name: sequential.decide(values[: trial.looks[-1]], trial.tolerance, Design(trial.looks, alphas[name]))
            for name, values in log_ratios.items()
        }
        changed = [name for name, one in decisions.items() if one.verdict in ("REGRESSED", "IMPROVED")]
        larger = trial.alpha / max(1, count - len(changed))
        again = [name for name in log_ratios if name not in changed and alphas[name] < larger]
        if not changed or not again:
            return {name: (decision, alphas[name]) for name, decision in decisions.items()}
        alphas |= dict.fromkeys(again, larger)


def judge(plan: Plan, found: Sequence[Sessions]) -> list[Judgement]:
    """The verdict on each workload, with what could have been detected."""
    by_key = {_key(one): one for one in found}
    measured = {key: one.log_ratios for key, one in by_key.items() if one.obstacle is None}
    decisions = settle(measured, plan.trial, len(found))
    return [
        _judgement(one, *decisions[key], plan.trial) if key in decisions else _not_measured(one, plan.trial)
        for key, one in by_key.items()
    ]


def noise(plan: Plan, found: Sequence[Sessions]) -> list[Noise]:
    """What the sessions of an A/A test say: disjoint trials in their order, each as long as a test would have been."""
    design = Design(Trial().looks, plan.trial.alpha / max(1, len(found)))
    tolerance = plan.trial.tolerance
    results = []
    for one in found:
        ended = sequential.trials(one.log_ratios, tolerance, design)
        alarms = sum(decision.verdict in ("REGRESSED", "IMPROVED") for decision in ended)
        results.append(
            Noise(
                one.workload,
                one.device,
                len(one.log_ratios),
                _log_sd(one.log_ratios),
                detectable(_log_sd(one.log_ratios), tolerance, design),
                len(ended),
                stats.clopper_pearson(alarms, len(ended)) if ended else None,
                alarms,
                sum(decision.verdict == "PASS" for decision in ended),
            )
        )
    return results


def unfit(rows: Iterable[Row]) -> dict[str, list[str]]:
    """The flags of an unfit machine, and in how many of the sessions' rows each was seen."""
    rows = list(rows)
    counts = Counter(flag for row in rows for flag in row["validity"] or () if fitness.is_unfit(flag))
    return {flag: [f"{count} of {len(rows)} rows"] for flag, count in sorted(counts.items())}


def detectable(log_sd: float | None, tolerance: float, design: Design, look: int | None = None) -> float | None:
    """The smallest true ratio whose interval lies beyond the tolerance 80 % of the time.

    Args:
        look: the one that the sessions reached, counted from 1; by default the last.
    """
    reached = len(design.looks) if look is None else look
    level = sequential.levels(design)[reached - 1] if reached else 0.0
    if log_sd is None or not level:
        return None
    found = stats.detectable_ratio(log_sd, design.looks[reached - 1], 1 - level)
    return None if found is None else found * (1 + tolerance)


def _judgement(one: Sessions, decision: Decision, alpha: float, trial: Trial) -> Judgement:
    log_sd = _log_sd(one.log_ratios)
    verdict = "INCONCLUSIVE" if decision.verdict == "GO_ON" else decision.verdict
    reason = ""
    if verdict == "INCONCLUSIVE":
        reason = f"{len(one.log_ratios)} of at most {trial.looks[-1]} sessions gave no clear answer"
        if not one.log_ratios:
            reason = "not measured: the test ended before it"
        elif len(one.log_ratios) < trial.looks[0]:
            reason = f"{len(one.log_ratios)} sessions, where the first look is after {trial.looks[0]}"
    return Judgement(
        one.workload,
        one.device,
        verdict,
        reason,
        decision.ratio,
        decision.interval,
        decision.interval.n if decision.interval else len(one.log_ratios),
        trial.tolerance,
        _adjusted(decision.p, alpha, trial),
        detectable(log_sd, trial.tolerance, Design(trial.looks, alpha), decision.look),
        log_sd,
        is_missing=not one.log_ratios,
    )


def _adjusted(p: float | None, alpha: float, trial: Trial) -> float | None:
    """By Holm: within the test's alpha where the decision's was within its own, which rounding must not undo."""
    if p is None:
        return None
    adjusted = min(1.0, p * (trial.alpha / alpha))
    return min(adjusted, trial.alpha) if p <= alpha else adjusted


def _not_measured(one: Sessions, trial: Trial) -> Judgement:
    row = one.obstacle
    assert row is not None
    reason = f"arm {row['arm']}: {row['status']}: {row['reason']}"
    verdict: Verdict = "ERROR" if row["status"] in FAILURES else "INCOMPARABLE"
    return Judgement(one.workload, one.device, verdict, reason, tolerance=trial.tolerance)


def _is_ok(row: Row) -> bool:
    return bool(row["status"] == "ok")


def _unlike(A: Row, B: Row) -> Row:
    """Arms with workloads of their own may do things that have no common measure."""
    return B | {"status": "unsupported", "reason": f"its figure is in {B['unit']}, that of A in {A['unit']}"}


def _work(row: Row) -> float:
    """The work of a launch, in ns times the unit of the headline."""
    work: float = row["value"] * row["median_ns"]
    return work


def _key(one: Sessions) -> str:
    return f"{one.workload} {one.device}"


def _log_sd(log_ratios: Sequence[float]) -> float | None:
    if len(log_ratios) < stats.MIN_OBSERVATIONS or not all(map(math.isfinite, log_ratios)):
        return None
    mean = math.fsum(log_ratios) / len(log_ratios)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in log_ratios) / (len(log_ratios) - 1))
