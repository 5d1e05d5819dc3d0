"""``bench.telemetry.watched``: what speaks against a device now, by the same rules as in a run."""

from __future__ import annotations

from typing import Any

import pytest

from bench.telemetry.reading import Reading
from bench.telemetry.watched import Watched


def gpu(index: int = 0, **fields: Any) -> Reading:
    return Reading(at_ns=10**9, device="cuda", device_index=index, **fields)


def cpu(total_s: float, busy_s: float, steal_s: float = 0.0, at_s: int = 1, **fields: Any) -> Reading:
    return Reading(
        at_ns=at_s * 10**9,
        device="cpu",
        device_index=0,
        cpu_time_s_total=total_s,
        cpu_busy_s_total=busy_s,
        cpu_steal_s_total=steal_s,
        **fields,
    )


def troubles(*readings: Reading) -> tuple[str, ...]:
    """Of the last of these readings."""
    watched = Watched()
    found: tuple[str, ...] = ()
    for one in readings:
        (now,) = watched.take([one])
        found = now.troubles
    return found


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"row_remap_failed": True}, "row-remap-failed: failed"),
        ({"row_remap_pending": True}, "row-remap-pending: pending"),
        ({"nvlinks_down": 1}, "nvlink-down: 1"),
        ({"pcie_width": 8, "pcie_width_max": 16}, "pcie-width: x8"),
        ({"clocks_locked": True}, "clocks-locked: locked"),
        ({"foreign_processes": 2}, "shared-gpu: 2"),
        ({"xids": (79,)}, "xid: 79"),
        ({"temperature_margin_c": 1}, "too-hot: 1 °C below its slowdown"),
    ],
)
def test_each_trouble_of_a_reading_is_named(fields: dict[str, Any], words: str) -> None:
    assert troubles(gpu(**fields)) == (words,)


def test_a_healthy_device_has_none() -> None:
    healthy = gpu(
        row_remap_failed=False,
        row_remap_pending=False,
        nvlinks_down=0,
        pcie_width=16,
        pcie_width_max=16,
        clocks_locked=False,
        foreign_processes=0,
        xids=(),
        temperature_margin_c=25,
        ecc_corrected_total=40,
        ecc_uncorrected_total=3,
        throttle_reasons=("sw_power_cap",),
    )
    assert troubles(healthy, healthy) == ()
    assert troubles(gpu()) == ()


def test_memory_errors_are_those_since_the_first_reading() -> None:
    before, now = (
        gpu(ecc_corrected_total=40, ecc_uncorrected_total=3),
        gpu(ecc_corrected_total=42, ecc_uncorrected_total=4),
    )
    assert troubles(before, now) == ("ecc-uncorrected: 1", "ecc-corrected: 2")
    assert troubles(before, now, now) == ("ecc-uncorrected: 1", "ecc-corrected: 2"), "they do not pass"


def test_a_critical_error_is_not_forgotten() -> None:
    assert troubles(gpu(xids=(79, 48)), gpu(xids=()), gpu(xids=(79,))) == ("xid: 79, 48",)


def test_a_device_that_does_not_answer_says_so_in_the_drivers_words() -> None:
    assert troubles(gpu(ecc_corrected_total=1, nvlinks_down=1), gpu(error="GPU is lost")) == ("GPU is lost",)


def test_what_was_lost_for_a_moment_is_compared_with_before() -> None:
    assert troubles(gpu(ecc_corrected_total=1), gpu(error="Timeout"), gpu(ecc_corrected_total=3)) == (
        "ecc-corrected: 2",
    )


def test_a_device_that_answers_only_later_is_compared_with_its_first_answer() -> None:
    assert troubles(gpu(error="Timeout"), gpu(ecc_corrected_total=1), gpu(ecc_corrected_total=3)) == (
        "ecc-corrected: 2",
    )


def test_stolen_time_is_a_trouble_of_the_cpu() -> None:
    assert troubles(cpu(100, 10, 1.0), cpu(110, 15, 1.5, at_s=2)) == ("steal: 5.0%",)
    assert troubles(cpu(100, 10, 1.0), cpu(110, 15, 1.05, at_s=2)) == ()
    assert troubles(cpu(100, 10, 1.0), cpu(100.2, 10.1, 1.01, at_s=2)) == (), "a tick is no evidence"


def test_a_power_limit_below_the_default_is_a_trouble() -> None:
    watched = Watched({"cuda:1": {"power_limit_w": 500.0, "power_limit_default_w": 700.0}})
    first, second = watched.take([gpu(0, power_w=650.0), gpu(1, power_w=500.0)])
    assert (first.power_limit_w, first.troubles) == (None, ())
    assert (second.power_limit_w, second.troubles) == (500.0, ("power-limit: 500 of 700 W",))


def test_each_device_is_compared_with_itself() -> None:
    watched = Watched()
    watched.take([gpu(0, ecc_corrected_total=5), gpu(1, ecc_corrected_total=0)])
    first, second = watched.take([gpu(0, ecc_corrected_total=5), gpu(1, ecc_corrected_total=1)])
    assert (first.troubles, second.troubles) == ((), ("ecc-corrected: 1",))


def test_the_cpus_power_and_load_are_since_the_reading_before() -> None:
    watched = Watched()
    (first,) = watched.take([cpu(100, 10, energy_j=1000.0)])
    assert (first.power_w, first.busy_fraction) == (None, None)
    watched.take([cpu(110, 10, at_s=2, energy_j=1080.0)])
    (third,) = watched.take([cpu(120, 15, at_s=4, energy_j=1280.0)])
    assert third.power_w == pytest.approx(100.0)
    assert third.busy_fraction == pytest.approx(0.5)


def test_the_cpu_comes_last() -> None:
    assert [one.device for one in Watched().take([cpu(1, 1), gpu(0), gpu(1)])] == ["cuda:0", "cuda:1", "cpu"]
