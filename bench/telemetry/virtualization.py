"""How a virtual machine and a container are told from a bare machine, as far as an ordinary user can see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.telemetry import files

# x86 has a CPU flag for it, Arm has not: what the firmware of virtual machines alone calls itself there.
_VIRTUAL_FIRMWARE = ("QEMU", "KVM", "VMware", "innotek GmbH", "Parallels", "Xen", "BHYVE", "Bochs", "OpenStack")
_AMAZON = "Amazon EC2"  # says so on bare metal too, of a type such as g5g.metal


def virtualization(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> str:
    """``vm``, ``container``, ``vm+container`` or ``none``."""
    found = []
    if _has_hypervisor_flag(root) or hypervisor(root) is not None:
        found.append("vm")
    if container(root, environ) is not None:
        found.append("container")
    return "+".join(found) or "none"


def hypervisor(root: Path = Path("/")) -> str | None:
    """Who runs this virtual machine, in its own words: ``wsl``, ``xen`` or what its firmware says of itself.

    None on a bare machine, and in a virtual one that does not tell.
    """
    if "microsoft" in (files.text(root / "proc/sys/kernel/osrelease") or "").lower():
        return "wsl"
    names = [files.text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    firmware = " ".join(name for name in names if name)
    is_amazon_vm = firmware.startswith(_AMAZON) and ".metal" not in firmware
    if _has_hypervisor_flag(root) or is_amazon_vm or any(str(name).startswith(_VIRTUAL_FIRMWARE) for name in names):
        return files.text(root / "sys/hypervisor/type") or firmware or None
    return None


def container(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> str | None:
    """What runs this container, from the marks that it leaves; None where there is none to be seen.

    ``apptainer``, ``kubernetes``, ``docker``, ``podman``, or what an engine says of itself in ``container`` or
    ``/run/systemd/container`` (systemd's Container Interface): ``lxc``, ``systemd-nspawn``, …
    """
    environ = os.environ if environ is None else environ
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    said = environ.get("container") or files.text(root / "run/systemd/container")
    return said or ("unknown" if "container" in environ else None)


def _has_hypervisor_flag(root: Path) -> bool:
    """Of the first CPU: all have the same."""
    try:
        with (root / "proc/cpuinfo").open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except (OSError, ValueError):
        return False
    return "hypervisor" in flags.split()
