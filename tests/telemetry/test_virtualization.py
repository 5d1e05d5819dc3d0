"""``bench.telemetry.virtualization``: a virtual machine and a container by the marks that they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.telemetry import virtualization
from tests.telemetry.trees import write

BARE = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx512f\n\nprocessor\t: 1\nflags\t\t: fpu avx512f\n"}
GUEST = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor avx512f\n"}
ARM = {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd sve\n"}


def firmware(vendor: str, product: str) -> dict[str, str]:
    dmi = "sys/class/dmi/id"
    return {f"{dmi}/sys_vendor": f"{vendor}\n", f"{dmi}/product_name": f"{product}\n"}


@pytest.mark.parametrize(
    ("machine", "is_virtual", "hypervisor"),
    [
        pytest.param(BARE | firmware("Supermicro", "SYS-821GE-TNHR"), False, None, id="bare"),
        pytest.param({}, False, None, id="nothing to be seen"),
        pytest.param(GUEST, True, None, id="one that does not tell"),
        pytest.param(GUEST | firmware("QEMU", "Standard PC (Q35)"), True, "QEMU Standard PC (Q35)", id="QEMU"),
        pytest.param(GUEST | firmware("Amazon EC2", "p5.48xlarge"), True, "Amazon EC2 p5.48xlarge", id="Amazon"),
        pytest.param(
            GUEST | firmware("Google", "Google Compute Engine"), True, "Google Google Compute Engine", id="by its CPU"
        ),
        pytest.param(BARE | firmware("Amazon EC2", "i3.metal"), False, None, id="Amazon, bare"),
        pytest.param(ARM | firmware("Amazon EC2", "g5g.2xlarge"), True, "Amazon EC2 g5g.2xlarge", id="Amazon, Arm"),
        pytest.param(ARM | firmware("Amazon EC2", "g5g.metal"), False, None, id="Amazon, Arm, bare"),
        pytest.param(ARM | firmware("QEMU", "KVM Virtual Machine"), True, "QEMU KVM Virtual Machine", id="Arm"),
        pytest.param(ARM | firmware("Red Hat", "KVM"), True, "Red Hat KVM", id="Arm, by its product"),
        pytest.param(ARM | firmware("NVIDIA", "GB200 NVL"), False, None, id="Arm, bare"),
        pytest.param(GUEST | {"sys/hypervisor/type": "xen\n"} | firmware("Xen", "HVM domU"), True, "xen", id="Xen"),
        pytest.param(
            GUEST | {"proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2\n"}, True, "wsl", id="WSL"
        ),
        pytest.param(
            BARE | {"proc/sys/kernel/osrelease": "6.8.0-1021-azure\n"}, False, None, id="only a kernel's name"
        ),
    ],
)
def test_a_virtual_machine(tmp_path: Path, machine: dict[str, str], is_virtual: bool, hypervisor: str | None) -> None:
    root = write(tmp_path, machine)
    assert virtualization.virtualization(root, {}) == ("vm" if is_virtual else "none")
    assert virtualization.hypervisor(root) == hypervisor


DOCKER = {".dockerenv": ""}
PODMAN = {"run/.containerenv": 'engine="podman-5.2"\n'}
SYSTEMD = {"run/systemd/container": "systemd-nspawn\n"}


@pytest.mark.parametrize(
    ("machine", "variables", "expected"),
    [
        ({}, {}, None),
        (DOCKER, {}, "docker"),
        (PODMAN, {"container": "oci"}, "podman"),
        (SYSTEMD, {}, "systemd-nspawn"),
        ({}, {"container": "lxc"}, "lxc"),
        ({}, {"container": ""}, "unknown"),
        (DOCKER, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        (DOCKER, {"APPTAINER_CONTAINER": "/images/torch.sif"}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/images/torch.sif"}, "apptainer"),
        ({}, {"CONTAINER_NAME": "mine", "SLURM_JOB_ID": "7"}, None),
    ],
)
def test_a_container(tmp_path: Path, machine: dict[str, str], variables: dict[str, str], expected: str | None) -> None:
    assert virtualization.container(write(tmp_path, BARE, machine), variables) == expected
    assert virtualization.virtualization(tmp_path, variables) == ("none" if expected is None else "container")


def test_a_container_in_a_virtual_machine_is_both(tmp_path: Path) -> None:
    assert virtualization.virtualization(write(tmp_path, GUEST, DOCKER), {}) == "vm+container"


def test_this_machine_is_one_of_them() -> None:
    assert virtualization.virtualization() in ("none", "vm", "container", "vm+container")
