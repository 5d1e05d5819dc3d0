"""``bench.telemetry.rates``: what two readings of a device say together."""

from __future__ import annotations

import pytest

from bench.telemetry import rates
from bench.telemetry.reading import Reading

SECOND_NS = 10**9


def reading(at_s: float, **fields: float | None) -> Reading:
    return Reading(at_ns=round(at_s * SECOND_NS), device="cpu", device_index=0, **fields)  # type: ignore[arg-type]


def cpu(at_s: float, total_s: float, busy_s: float, steal_s: float = 0.0) -> Reading:
    return reading(at_s, cpu_time_s_total=total_s, cpu_busy_s_total=busy_s, cpu_steal_s_total=steal_s)


def test_a_power_that_is_known_is_taken_as_it_is() -> None:
    assert rates.power_w(None, reading(1, power_w=300.0)) == 300.0
    assert rates.power_w(reading(0, energy_j=0), reading(1, power_w=300.0, energy_j=999)) == 300.0


def test_energy_alone_gives_the_mean_power_since_the_reading_before() -> None:
    assert rates.power_w(reading(1, energy_j=50.0), reading(1.5, energy_j=90.0)) == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, reading(1, energy_j=50.0)),
        (reading(0), reading(1, energy_j=50.0)),
        (reading(0, energy_j=50.0), reading(1)),
        (reading(0, energy_j=50.0), reading(1, energy_j=49.0)),  # set back
        (reading(1, energy_j=50.0), reading(1, energy_j=51.0)),  # no time has passed
    ],
)
def test_without_two_energies_no_power_is_known(before: Reading | None, now: Reading) -> None:
    assert rates.power_w(before, now) is None


def test_the_shares_are_of_all_the_time_that_passed() -> None:
    before, now = cpu(0, 100.0, 40.0, 1.0), cpu(1, 104.0, 43.0, 1.5)
    assert rates.busy_fraction(before, now) == pytest.approx(0.75)
    assert rates.steal_fraction(before, now) == pytest.approx(0.125)


def test_a_share_is_never_above_one() -> None:
    assert rates.busy_fraction(cpu(0, 100.0, 40.0), cpu(1, 104.0, 44.01)) == 1.0


def test_where_no_time_was_counted_no_share_is_known() -> None:
    assert rates.busy_fraction(cpu(0, 100.0, 40.0), cpu(1, 100.0, 40.0)) is None
    assert rates.busy_fraction(None, cpu(1, 100.0, 40.0)) is None


def test_readings_are_parted_by_device_in_the_order_of_time() -> None:
    readings = [
        Reading(at_ns=at_ns, device=kind, device_index=index)
        for at_ns in (30, 10, 20)
        for kind, index in (("cpu", 0), ("cuda", 10), ("cuda", 2))
    ]
    found = rates.by_device(readings)
    assert list(found) == ["cuda:2", "cuda:10", "cpu"]
    assert [one.at_ns for one in found["cuda:10"]] == [10, 20, 30]


def test_a_sample_costs_what_all_its_readings_cost() -> None:
    readings = [
        Reading(at_ns=sample, device=device, device_index=0, cpu_ns=cost)
        for sample, costs in enumerate([(100_000, 300_000), (200_000, 300_000), (100_000, 9_000_000)])
        for device, cost in zip(("cpu", "cuda"), costs, strict=True)
    ]
    assert rates.cost_ms(readings) == 0.5
    assert rates.cost_ms([]) is None
    assert rates.cost_ms([Reading(at_ns=1, device="cpu", device_index=0)]) is None, "a picture of old readings"
