"""An acceptance: a soak if the criteria have one, then what they need until all is decided or no look is left."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import run
from bench import soak as soaks
from bench.acceptance.judge import judge
from bench.criteria.model import Criteria
from bench.device import select
from bench.errors import ImpossibleDevice, Interrupted, MissingDevice, UsageError
from bench.observer import Observer
from bench.plan import make_plan
from bench.schema import Row
from bench.suite import Suite
from bench.types import DeviceInfo, Plan, Soak

# Replicates that were disturbed from outside are set aside by the judge: as many again may take their place.
_MOST = 2
_CRITERIA_TAG = "criteria_sha256"
_TIMEOUT_S = 600.0  # of one workload in one process: a large model is drawn, checked, and timed


def devices_of(criteria: Criteria, selector: str | None = None) -> tuple[DeviceInfo, ...]:
    """What there is here of the kind that the criteria judge: never another in its place, but for a scripted one.

    Raises:
        MissingDevice: nothing of that kind.
        UnusableGpu: NVIDIA hardware is present and CUDA does not work.
        UsageError: the selector is of another kind.
    """
    selector = selector or criteria.device
    if selector.partition(":")[0] not in (criteria.device, "fake"):
        kinds = f"Leave out --device, or name {criteria.device} or fake:SCENARIO"
        raise UsageError(f"--device {selector}: {criteria.path.stem} judges {criteria.device}", kinds)
    try:
        return select.find(selector)
    except ImpossibleDevice as error:
        if ":" in selector:  # one GPU of several, or a script, that is not there
            raise
        raise MissingDevice(
            f"FAIL: {error.what.partition(': ')[2]}, and {criteria.path.stem} judges that", "Nothing was measured"
        ) from None


def plan_of(
    criteria: Criteria,
    devices: Sequence[DeviceInfo],
    *,
    label: str | None = None,
    tags: Mapping[str, str] | None = None,
    telemetry_hz: float = 10.0,
    anonymous: bool = False,
) -> Plan:
    """What measures all that the criteria name, and nothing else but the roofs that this is held against.

    Raises:
        UsageError: the criteria name no workload, so nothing would be measured that they could be judged by.
    """
    soak = soak_of(criteria)
    if not (criteria.workloads or soak):
        raise UsageError(
            f"{criteria.path} names no workload", "Give it a criterion of performance, see docs/acceptance.md"
        )
    workloads = criteria.workloads or (soak.workload,)  # type: ignore[union-attr]
    suite = Suite(f"accept-{criteria.path.stem}", workloads=workloads, timeout_s=_TIMEOUT_S)
    plan = make_plan(
        suite,
        devices,
        replicates=_MOST * criteria.looks[-1],
        label=label,
        tags={**(tags or {}), _CRITERIA_TAG: criteria.sha256},
        telemetry_hz=telemetry_hz,
        anonymous=anonymous,
    )
    plan = dataclasses.replace(plan, soak=soak)
    return plan if criteria.workloads else soaks.alone(plan)


def soak_of(criteria: Criteria) -> Soak | None:
    """The soak that they demand: it comes first, and what is measured after it follows a cool-down."""
    one = criteria.soak
    if one is None:
        return None
    return Soak.lasting(one.workload, float(one.limit.stated["at_least"]) * 3600, one.cool_down_minutes * 60)


def require_same(plan: Plan, criteria: Criteria) -> None:
    """See that an acceptance goes on by the criteria that it was begun with.

    Raises:
        UsageError: it was begun with others, or is none.
    """
    begun_with = plan.tags.get(_CRITERIA_TAG)
    if begun_with != criteria.sha256:
        what = "was begun with other criteria" if begun_with else "is no acceptance"
        raise UsageError(f"run {plan.run_id} {what}", "Looks are planned before the data are seen: start a new one")


def execute(
    plan: Plan,
    criteria: Criteria,
    out: Path,
    *,
    budget_s: float | None = None,
    kept: Sequence[Row] = (),
    observer: Observer | None = None,
) -> Path:
    """Measure, and give the path of the result, by which the criteria are judged.

    Args:
        budget_s: what is undecided then stays so.
        kept: rows of an earlier attempt, which are not measured again.

    Raises:
        Interrupted, OutputNotWritable: see `bench.run.execute`.
    """

    def is_decided(plan: Plan, rows: Sequence[Row]) -> bool:
        is_early = plan.replicates < criteria.looks[0]  # answers and states are watched for as long as that
        found = (finding for one in judge(plan, rows, criteria).criteria for finding in one.findings)
        return not is_early and not any(finding.wants for finding in found)

    try:
        return run.execute(plan, out, budget_s=budget_s, kept=kept, observer=observer, enough=is_decided)
    except Interrupted as interrupt:
        named = f"--criteria {shlex.quote(str(criteria.path))} --resume {plan.run_id} --out {shlex.quote(str(out))}"
        raise interrupt.with_words(interrupt.what, f"Go on with: vnbench accept {named}") from None
