"""``bench.telemetry.cgroup``: a limit holds wherever it was set around this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.telemetry import cgroup
from tests.telemetry.trees import write

TOP = "sys/fs/cgroup"
SECOND = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = (
    "30 22 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "35 30 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
FIRST_GROUPS = "4:memory:/a/b\n3:cpu,cpuacct:/a/b\n2:cpuset:/a\n1:name=systemd:/a/b\n"


def machine(root: Path, groups: str, mounts: str, limits: Mapping[str, str] | None = None) -> Path:
    """A root with those groups and mounts, and with files below the mount point."""
    write(root, {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts})
    write(root / TOP, limits or {})
    return root


@pytest.mark.parametrize(
    ("groups", "mounts", "version", "expected"),
    [
        pytest.param("0::/a/b\n", SECOND, 2, ["a/b", "a", "."], id="version 2"),
        pytest.param("0::/\n", SECOND, 2, ["."], id="a container that sees its own group only"),
        pytest.param("0::/../b\n", SECOND, 2, ["."], id="a group outside of what is mounted"),
        pytest.param(FIRST_GROUPS, FIRST, 1, ["cpu,cpuacct/a/b", "cpu,cpuacct/a", "cpu,cpuacct"], id="version 1"),
        pytest.param("0::/x\n" + FIRST_GROUPS, SECOND + FIRST, 1, ["cpu,cpuacct/a/b", "cpu,cpuacct/a", "cpu,cpuacct"]),
        pytest.param(
            "3:cpu,cpuacct:/docker/1f\n",
            "33 30 0:30 /docker/1f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
            1,
            ["cpu,cpuacct"],
            id="a container whose own group is mounted",
        ),
        pytest.param(
            "3:cpu,cpuacct:/docker/1f/in\n",
            "33 30 0:30 /docker/1f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
            1,
            ["cpu,cpuacct/in", "cpu,cpuacct"],
            id="a group inside such a container",
        ),
        pytest.param("0::/a\n", "", 2, [], id="not mounted"),
        pytest.param("", SECOND, None, [], id="no groups"),
    ],
)
def test_the_groups_around_this_process(
    tmp_path: Path, groups: str, mounts: str, version: int | None, expected: list[str]
) -> None:
    root = machine(tmp_path, groups, mounts)
    assert cgroup.folders("cpu", root) == tuple(root / TOP / folder for folder in expected)
    assert cgroup.version(root) == version


def test_a_kernel_without_control_groups_has_none(tmp_path: Path) -> None:
    assert cgroup.folders("cpu", tmp_path) == ()
    assert (cgroup.version(tmp_path), cgroup.cpu_limit_cores(tmp_path)) == (None, None)
    assert (cgroup.memory_limit_bytes(tmp_path), cgroup.cpuset(tmp_path)) == (None, None)


def test_the_tightest_limit_of_version_2_holds(tmp_path: Path) -> None:
    limits = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "150000 50000\n",
        "cpu.max": "800000 100000\n",
        "a/b/memory.max": "4096000\n",
        "a/memory.max": "max\n",
        "memory.max": "8192000\n",
        "a/b/cpuset.cpus.effective": "",
        "a/cpuset.cpus.effective": "0-1,8\n",
        "cpuset.cpus.effective": "0-31\n",
    }
    root = machine(tmp_path, "0::/a/b\n", SECOND, limits)
    assert cgroup.cpu_limit_cores(root) == 3.0
    assert cgroup.memory_limit_bytes(root) == 4096000
    assert cgroup.cpuset(root) == "0-1,8"


def test_the_tightest_limit_of_version_1_holds(tmp_path: Path) -> None:
    limits = {
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "400000\n",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/a/memory.limit_in_bytes": "1073741824\n",
        "cpuset/a/cpuset.effective_cpus": "4-7\n",
    }
    root = machine(tmp_path, FIRST_GROUPS, FIRST, limits)
    assert cgroup.cpu_limit_cores(root) == 0.5
    assert cgroup.memory_limit_bytes(root) == 1 << 30
    assert cgroup.cpuset(root) == "4-7"


@pytest.mark.parametrize("text", ["max 100000\n", "100000 0\n", "100000\n", "", "many 100000\n", "-1 100000\n"])
def test_what_is_no_quota_limits_nothing(tmp_path: Path, text: str) -> None:
    root = machine(tmp_path, "0::/\n", SECOND, {"cpu.max": text})
    assert cgroup.cpu_limit_cores(root) is None


def test_no_limit_at_all_is_none(tmp_path: Path) -> None:
    limits = {"memory/memory.limit_in_bytes": "9223372036854771712\n"}
    root = machine(tmp_path, "4:memory:/\n", FIRST, limits)
    assert cgroup.memory_limit_bytes(root) is None


def test_this_machine() -> None:
    for controller in ("cpu", "memory", "cpuset"):
        for folder in cgroup.folders(controller):
            assert folder.is_dir()
    cores = cgroup.cpu_limit_cores()
    assert cores is None or cores > 0
