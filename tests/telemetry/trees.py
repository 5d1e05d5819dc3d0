"""Machines of files: what ``/proc`` and ``/sys`` show on one, written below a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

CPU = "sys/devices/system/cpu"
RAPL = "sys/class/powercap"
NOBODY = 65534

# user nice system idle iowait irq softirq steal guest guest_nice, in ticks of 10 ms
STAT = "cpu  1000 200 300 4000 500 60 70 80 900 100\ncpu0 1 2 3 4 5 6 7 8 9 0\nintr 1 2 3\n"

# Two packages of two CPUs each, with all that such a machine shows an ordinary user who may read its energy.
INTEL = {
    "proc/stat": STAT,
    f"{RAPL}/intel-rapl:0/name": "package-0\n",
    f"{RAPL}/intel-rapl:0/energy_uj": "5000000\n",
    f"{RAPL}/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    f"{RAPL}/intel-rapl:0:0/name": "dram\n",
    f"{RAPL}/intel-rapl:0:0/energy_uj": "1000000\n",
    f"{RAPL}/intel-rapl:1/name": "package-1\n",
    f"{RAPL}/intel-rapl:1/energy_uj": "7000000\n",
    f"{RAPL}/intel-rapl:1/max_energy_range_uj": "262143328850\n",
    f"{RAPL}/intel-rapl:2/name": "psys\n",
    f"{RAPL}/intel-rapl:2/energy_uj": "9000000\n",
    f"{RAPL}/intel-rapl-mmio:0/name": "package-0\n",
    f"{RAPL}/intel-rapl-mmio:0/energy_uj": "5000000\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
    "sys/class/hwmon/hwmon1/name": "coretemp\n",
    "sys/class/hwmon/hwmon1/temp1_label": "Package id 0\n",
    "sys/class/hwmon/hwmon1/temp1_input": "61000\n",
    "sys/class/hwmon/hwmon1/temp1_max": "80000\n",
    "sys/class/hwmon/hwmon1/temp1_crit": "90000\n",
    "sys/class/hwmon/hwmon1/temp2_label": "Core 0\n",
    "sys/class/hwmon/hwmon1/temp2_input": "88000\n",
    "sys/class/hwmon/hwmon2/name": "coretemp\n",
    "sys/class/hwmon/hwmon2/temp1_label": "Package id 1\n",
    "sys/class/hwmon/hwmon2/temp1_input": "67000\n",
    "sys/class/hwmon/hwmon2/temp1_crit": "100000\n",
    **{
        f"{CPU}/cpu{cpu}/{name}": text
        for cpu in range(4)
        for name, text in {
            "topology/physical_package_id": f"{cpu // 2}\n",
            "thermal_throttle/package_throttle_total_time_ms": f"{1000 * (cpu // 2)}\n",
            "thermal_throttle/package_throttle_count": "3\n",
            "thermal_throttle/core_throttle_total_time_ms": "77000\n",
            "thermal_throttle/core_throttle_count": "8\n",
            "cpufreq/scaling_cur_freq": f"{2000000 + 100000 * cpu}\n",
        }.items()
    },
}

AMD = {
    "proc/stat": STAT,
    f"{RAPL}/intel-rapl:0/name": "package-0\n",
    f"{RAPL}/intel-rapl:0/energy_uj": "3000000\n",
    f"{RAPL}/intel-rapl:0/max_energy_range_uj": "65532610987\n",
    "sys/class/hwmon/hwmon0/name": "k10temp\n",
    "sys/class/hwmon/hwmon0/temp1_label": "Tctl\n",
    "sys/class/hwmon/hwmon0/temp1_input": "77000\n",
    "sys/class/hwmon/hwmon0/temp2_label": "Tdie\n",
    "sys/class/hwmon/hwmon0/temp2_input": "50000\n",
    "sys/class/hwmon/hwmon0/temp3_label": "Tccd1\n",
    "sys/class/hwmon/hwmon0/temp3_input": "95000\n",
    f"{CPU}/cpu0/topology/physical_package_id": "0\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3400000\n",
}

VIRTUAL = {"proc/stat": STAT}


def write(root: Path, *machines: Mapping[str, str]) -> Path:
    """Write files below ``root``, into those that are there already."""
    for machine in machines:
        for name, text in machine.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def link_to_nowhere(path: Path) -> None:
    """Put something into a file's place that nobody can open, root no more than others."""
    path.unlink(missing_ok=True)
    path.symlink_to(path)


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Whoever runs the tests, read as one whom file modes bind."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
