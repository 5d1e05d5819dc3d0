"""What a run sets out to do: from a suite and devices to a ``Plan``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import bench
from bench import registry
from bench.anonymous import pseudonym
from bench.errors import UsageError
from bench.suite import Suite
from bench.types import Arm, DeviceInfo, Plan, Trial


def make_plan(
    suite: Suite,
    devices: Sequence[DeviceInfo],
    *,
    replicates: int | None = None,
    label: str | None = None,
    tags: Mapping[str, str] | None = None,
    telemetry_hz: float = 10.0,
    anonymous: bool = False,
) -> Plan:
    """What a run of that suite on those devices has to do, the roofs of its workloads included."""
    kinds = dict.fromkeys(device.kind for device in devices)
    workloads: dict[str, tuple[str, ...]] = {kind: registry.with_roofs(suite.on(kind), kind) for kind in kinds}
    if not any(workloads.values()):
        raise UsageError(f"suite {suite.name!r} has no workload for {', '.join(kinds)}", "Name workloads, or a device")
    return Plan(
        run_id=secrets.token_hex(5),
        node=node_names()[anonymous],
        suite=_safe(suite.name),
        started_at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        workloads=workloads,
        devices=tuple(devices),
        policy=suite.policy,
        replicates=replicates or suite.replicates,
        timeout_s=suite.timeout_s,
        vnbench_version=bench.__version__,
        source_commit=source_commit(),
        label=label,
        tags=dict(tags or {}),
        telemetry_hz=telemetry_hz,
        anonymous=anonymous,
    )


def make_ab_plan(
    suite: Suite,
    device: DeviceInfo,
    arms: Sequence[Arm],
    trial: Trial,
    *,
    label: str | None = None,
    tags: Mapping[str, str] | None = None,
    telemetry_hz: float = 10.0,
) -> Plan:
    """What an A/B test has to do on one device: no roofs, and as many sessions as it may need at most.

    Raises:
        UsageError: there is nothing to test, or workloads are named where the arms have their own.
    """
    own = tuple(arm.workload for arm in arms if arm.workload)
    names = suite.on(device.kind)
    if own and (len(own) < len(arms) or names):
        raise UsageError("a workload is named for one arm only, or beside those of the arms", "Name it for both arms")
    workloads = tuple(registry.resolve(name).name for name in own) or names
    arms = [dataclasses.replace(arm, workload=arm.workload and registry.resolve(arm.workload).name) for arm in arms]
    base = make_plan(
        dataclasses.replace(suite, by_kind={}, workloads=workloads),
        [device],
        label=label,
        tags=tags,
        telemetry_hz=telemetry_hz,
    )
    return dataclasses.replace(
        base, workloads={device.kind: workloads}, arms=tuple(arms), trial=trial, replicates=trial.looks[-1]
    )


def node_names() -> tuple[str, str]:
    """This host's name in characters that are safe in a path, and the one that it has in anonymous results."""
    name = _safe(platform.node()) or "unnamed"
    return name, pseudonym(name, "node")


def _safe(name: str) -> str:
    """The name in characters that are safe in a path and a glob."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")


def source_commit() -> str | None:
    """The commit of the checkout that this package lies in, with a ``+`` if tracked files are modified."""
    root = Path(bench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, env=environment
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
