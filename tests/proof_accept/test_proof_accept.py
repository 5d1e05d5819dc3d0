"""The recorded acceptances, judged again: the figures of docs/proof-accept.md are what `judge` says today."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import errors, pack, store
from bench.__main__ import main
from bench.acceptance.canonical import judge_file
from bench.acceptance.judge import judge
from bench.errors import UsageError
from bench.report import acceptance as shown
from bench.report import table
from bench.seal import evidence
from tests.acceptance.results import criteria as criteria_of
from tests.acceptance.results import healthy
from tests.checkout import Checkout
from tests.proof_accept import criteria, faults, record, recordings, report, scripted, sessions
from tests.proof_accept.faults import Edit, Fault
from tests.proof_accept.recordings import HEALTHY, Acceptance
from tests.proof_accept.repeatability import repeatability
from tests.results import CPU, make_plan, make_row

# ---------------------------------------------------------------- the document


@pytest.mark.parametrize("name", report.TABLES)
def test_a_table_of_the_document_is_what_the_recordings_say(name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", report.DOCUMENT.read_text(), flags=re.DOTALL)
    assert found is not None
    assert found[1].strip() == report.TABLES[name]().strip()


def test_the_aim_is_met_where_the_document_says_so() -> None:
    """A hundred judgements of a sound machine, twenty of them live: no FAIL, 80 % decided, every fault found."""
    if "The aim is met" not in report.DOCUMENT.read_text():
        return
    live, quiet = report.live(), report.from_sessions(report.CALIBRATIONS[-1])[1]
    assert len(live.verdicts) >= 20
    judged = len(live.verdicts) + len(quiet.verdicts)
    assert judged >= 100
    assert live.outcomes["FAIL"] == quiet.outcomes["FAIL"] == 0
    assert live.decided + quiet.decided >= 0.8 * judged
    assert live.decided >= 0.8 * len(live.verdicts)
    for truth, name in record.NAMED_BY.items():
        verdicts = report.live(truth).verdicts
        assert verdicts and all(name in faults.failed(one) for one in verdicts), truth


# ---------------------------------------------------------------- acceptances of the recorded sessions


def test_no_replicate_is_in_two_acceptances() -> None:
    halves = [*sessions.halves("quiet"), *sessions.halves("contended")]
    assert len(halves) >= 100
    replicates = [(row["run_id"], row["session"]) for one in halves for row in one.rows]
    assert len(replicates) == len(set(replicates))


def test_a_calibration_judges_nothing_that_set_its_floor() -> None:
    for count in report.CALIBRATIONS:
        taken = report.from_sessions(count)[1].taken
        assert len(taken) == len(sessions.halves("quiet")) - count
        last = max(row["started_at"] for one in sessions.halves("quiet")[:count] for row in one.rows)
        assert all(row["started_at"] > last for one in taken for row in one.rows)


def test_an_acceptance_takes_as_many_passes_as_it_needs() -> None:
    around = [1.0, 1.01, 0.99, 1.005, 0.995] * 5
    plan = make_plan(sessions.WORKLOAD, replicates=24)
    rows = [
        make_row(plan, sessions.WORKLOAD, value=value, unit="call/s", check_error=0.0, check_tolerance=0.0)
        | {"replicate": number}
        for number, value in enumerate(around[:24])
    ]
    clear, _ = sessions.accepted(Acceptance(plan, rows), sessions.criteria(0.5))
    assert clear.replicates == 5
    taken, verdict = sessions.accepted(Acceptance(plan, rows), sessions.criteria(1.0))
    assert (taken.replicates, verdict.outcome) == (12, "INCONCLUSIVE")
    rows[2]["validity"] = ["unfit:steal"]
    taken, verdict = sessions.accepted(Acceptance(plan, rows), sessions.criteria(0.5))
    assert (taken.replicates, verdict.outcome) == (6, "PASS"), "another takes the disturbed one's place"


# ---------------------------------------------------------------- faults


def sound(folder: Path, spread: float = 0.01) -> Acceptance:
    """An acceptance of a sound machine that nobody measured, at the limits that it set itself."""
    plan = make_plan(criteria.PRODUCTS, replicates=5, tags={recordings.TRUTH: HEALTHY}, devices=(CPU,))
    now = dt.datetime(2026, 11, 22, 5, 17, tzinfo=dt.UTC)
    known: dict[str, Any] = {
        "check_error": 1e-7,
        "check_tolerance": 1e-5,
        "swapped_bytes": 0,
        "memory_bytes": 64 << 30,
        "cpu_cores": 8,
    }
    known |= {"timed_from": now, "timed_until": now, "roofs": [], "validity": []}
    rows = [
        make_row(plan, criteria.PRODUCTS, replicate=replicate, value=4e11 * math.exp(spread * (replicate - 2))) | known
        for replicate in range(5)
    ]
    return Acceptance(plan, rows)


def test_a_sound_acceptance_passes_by_the_limits_that_it_set(tmp_path: Path) -> None:
    one = sound(tmp_path)
    found = criteria.calibrated(tmp_path, [one])
    assert judge(one.plan, one.rows, found).outcome == "PASS"
    (floor,) = (each.limit.at_least for each in found.criteria if each.id == "products")
    least = min(row["value"] for row in one.rows)
    assert floor == pytest.approx(0.95 * least, rel=1e-3)
    again = criteria.calibrated(tmp_path, [faults.slowed(criteria.PRODUCTS, 2.0)(one)])
    assert again.sha256 == found.sha256, "floors are set once"


@pytest.mark.parametrize(("fault", "name"), report.EXACT.values(), ids=report.EXACT)
def test_an_exact_fault_is_found_and_nothing_else_is(tmp_path: Path, fault: Fault, name: str) -> None:
    found = criteria.calibrated(tmp_path, [sound(tmp_path)])
    made = fault(sound(tmp_path))
    failed = set(faults.failed(judge(made.plan, made.rows, found)))
    assert failed == {name} | ({criteria.FIGURE} if name == "answers" else set()), "a wrong answer has no figure either"


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.03])
def test_what_is_slower_by_margin_and_two_half_widths_fails_and_by_half_a_margin_does_not(
    tmp_path: Path, spread: float
) -> None:
    one = sound(tmp_path, spread)
    found = criteria.calibrated(tmp_path, [one])
    slow = faults.slowed(criteria.PRODUCTS, faults.needed_slowdown([one], found, criteria.FIGURE))(one)
    assert set(faults.failed(judge(slow.plan, slow.rows, found))) == {criteria.FIGURE}
    finding = faults.finding_of(one, found, criteria.FIGURE)
    assert isinstance(finding.observed, float)
    (limit,) = next(each for each in found.criteria if each.id == criteria.FIGURE).limit.stated.values()
    mild = faults.slowed(criteria.PRODUCTS, math.sqrt(finding.observed / limit))(one)
    assert not faults.failed(judge(mild.plan, mild.rows, found))


def test_a_device_that_is_missing_is_found(tmp_path: Path) -> None:
    plan, rows = healthy(8)
    found = criteria_of(tmp_path, '[[inventory]]\nid = "gpus"\nwhat = "devices"\nequal = 8\nsource = "a test"\n')
    seven = faults.missing_device(Acceptance(plan, rows))
    assert judge(plan, rows, found).outcome == "PASS"
    assert faults.failed(judge(seven.plan, seven.rows, found)) == {"gpus": "node"}


def test_accept_fails_where_no_gpu_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.device.select._usable_gpus", lambda reason: ())
    monkeypatch.setattr(sys, "argv", ["vnbench", "accept", "--criteria", "h100-sxm", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == errors.REGRESSED
    assert "FAIL: no NVIDIA GPU on this machine, and h100-sxm judges that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "is_right", "times"),
    [(faults.flipped_bit(), False, 1), (faults.slower_kernel(3.0), True, 3)],
    ids=["flipped bit", "slower kernel"],
)
def test_a_fault_in_a_kernels_code_is_what_it_says(tmp_path: Path, edit: Edit, is_right: bool, times: int) -> None:
    """Timed by a clock that a launch moves on by one: what is as slow as three reads the clock as often as it takes."""
    checkout = Checkout(tmp_path)
    checkout.edit(*edit)
    code = f"""
import json, pathlib, time
from bench import registry
from bench.device.select import cpu_info, open_device
one = registry.resolve({criteria.PRODUCTS.replace("2048", "64")!r})
case = one.kernel.prepare(one.params, open_device(cpu_info("a test"), pathlib.Path()), 1)
reads = []
def clock():
    reads.append(0)
    return len(reads)
time.perf_counter_ns = clock
enqueue, launched = case._enqueue, []
case._enqueue = lambda: (launched.append(0), enqueue())
case.launch()
spent = len(reads)
check = case.check()
print(json.dumps([check.ok, spent, len(launched)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout.root,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    ok, spent, launched = json.loads(done.stdout)
    assert (ok, launched) == (is_right, 2)
    # Begun at 1, the launch ended at 2, so that it is over when the clock shows 1 + times.
    assert spent == (0 if times == 1 else 1 + times)


# ---------------------------------------------------------------- the whole path, with scripted state


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, made = tmp_path_factory.mktemp("scripted"), {}

    def path_of(truth: str) -> Path:
        if truth not in made:
            made[truth] = scripted.record(truth, folder)
        return made[truth]

    return path_of


def test_eight_gpus_whose_library_reports_nothing_bad_pass(accepted: Callable[[str], Path]) -> None:
    sound, _ = scripted.SCRIPTS
    verdict, _ = judge_file(accepted(sound), scripted.criteria())
    assert verdict.outcome == "PASS", shown.reasons(verdict)


def test_each_sick_gpu_is_named_by_the_criterion_that_it_misses_and_no_other_is(
    accepted: Callable[[str], Path],
) -> None:
    _, sick = scripted.SCRIPTS
    verdict, _ = judge_file(accepted(sick), scripted.criteria())
    assert faults.failed(verdict) == {name: device for name, (device, _) in scripted.FOUND.items()}
    for one in verdict.criteria:
        bad = [finding.device for finding in one.findings if finding.outcome == "FAIL"]
        assert bad == [scripted.FOUND[one.criterion.id][0]] if bad else one.outcome != "FAIL"


@pytest.mark.parametrize("truth", scripted.SCRIPTS)
def test_a_scripted_verdict_is_stamped_simulated_and_cannot_be_sealed(
    accepted: Callable[[str], Path], truth: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = accepted(truth), scripted.criteria()
    verdict, encoded = judge_file(path, found)
    assert json.loads(encoded)["simulated"] is True
    shown.show(table.console(), verdict, found, "eight")
    assert capsys.readouterr().out.startswith(f"SIMULATED {verdict.outcome}\nSIMULATED: ")
    with pytest.raises(UsageError, match="is simulated: it is no evidence of any machine"):
        evidence.gather(path, dt.datetime.now(dt.UTC), criteria=found.path, judged=encoded)


# ---------------------------------------------------------------- recordings and figures


def test_an_acceptance_that_was_stopped_is_no_judgement_and_a_packed_one_counts_once(tmp_path: Path) -> None:
    for run_id, status in (("aaaaaaaaaa", "ok"), ("bbbbbbbbbb", "interrupted")):
        one = sound(tmp_path)
        plan = dataclasses.replace(one.plan, run_id=run_id)
        folder = store.begin(tmp_path, plan)
        try:
            folder.commit([*one.rows[:-1], one.rows[-1] | {"status": status}])
        finally:
            folder.release()
    pack.pack(store.result_files(tmp_path / "runs"), tmp_path / "runs")
    (kept,) = recordings.load(tmp_path)
    assert (kept.plan.run_id, kept.truth, kept.replicates) == ("aaaaaaaaaa", HEALTHY, 5)


def test_repeatability_is_the_mean_of_the_smaller_over_the_larger() -> None:
    assert repeatability([3.0, 3.0, 3.0]) == 1.0
    assert repeatability([1.0, 2.0, 4.0]) == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)
    with pytest.raises(ValueError, match="two values"):
        repeatability([1.0])


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8), st.floats(1e-3, 1e3))
def test_repeatability_knows_no_unit_and_no_order(values: list[float], scale: float) -> None:
    found = repeatability(values)
    assert 0 < found <= 1
    assert repeatability([scale * value for value in reversed(values)]) == pytest.approx(found)
