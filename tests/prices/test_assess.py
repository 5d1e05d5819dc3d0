"""What work costs: the formulas by hand, intervals carried through, who leads, and what is not known."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from bench.comparison.model import Comparison
from bench.prices import assess as prices
from bench.prices.assess import Economics, Lead, Sensitivity, Worth, assess
from bench.prices.file import Machine, Prices
from bench.stats import Interval
from tests.comparisons import changed, make_cell, make_comparison, make_ratio, make_side, make_whole

# A price of 8760 * 4 * 0.5 * 1000: so much that an hour of useful work costs 1000 for the machine alone.
MACHINE = Machine(("*",), price=17_520_000, lifetime_years=4, utilisation=0.5, power_price_per_kwh=2000, pue=1.5)
VARY = dict.fromkeys(("price", "lifetime", "utilisation", "power_price", "pue"), (0.5, 2.0))
TOKENS = "decode/llama-3.2-1b/b1/ctx512"  # 180 token/s in tests/comparisons.py


def file_of(*machines: Machine, vary: dict[str, tuple[float, float]] | None = None) -> Prices:
    return Prices(Path("prices.toml"), "VND", machines or (MACHINE,), VARY | (vary or {}))


def two(ratio: float = 1.2, workload: str = TOKENS, power_w: float | None = 500.0) -> Comparison:
    cells = [make_cell("a", workload, power_w=500.0), make_cell("b", workload, ratio, power_w=power_w)]
    return make_comparison([make_side("a"), make_side("b")], cells)


def worths(found: Economics) -> dict[str, Worth]:
    return {one.side: one for one in found.worths}


def lead(found: Economics) -> Lead:
    (only,) = found.leads
    return only


def varied(found: Economics, assumption: str, side: str | None = None) -> Sensitivity:
    return next(one for one in lead(found).sensitivities if (one.assumption, one.side) == (assumption, side))


# ---------------------------------------------------------------- the formulas


def test_an_hour_costs_price_and_energy() -> None:
    one = worths(assess(two(), file_of()))["a"]
    assert one.cost_per_hour == pytest.approx(1000 + 0.5 * 1.5 * 2000)
    assert one.work_per_money == pytest.approx(180 * 3600 / 2500)
    assert (one.unit, one.lot) == ("token", "Mtoken")
    assert one.cost_per_lot == pytest.approx(2500 / (180 * 3600) * 1e6)


def test_a_yearly_cost_and_the_hosts_power_are_added() -> None:
    machine = dataclasses.replace(MACHINE, yearly_cost=8760 * 0.5 * 300, host_power_w=100.0)
    one = worths(assess(two(), file_of(machine)))["a"]
    assert one.power_w == 600
    assert one.cost_per_hour == pytest.approx(1000 + 300 + 0.6 * 1.5 * 2000)


def test_a_launch_of_several_devices_is_paid_for_with_all_of_them() -> None:
    machine = dataclasses.replace(MACHINE, yearly_cost=8760 * 0.5 * 300, host_power_w=100.0, power_w=250.0)
    several = "decode/llama-3.1-70b/b1/ctx512@tp=8"
    one = worths(assess(two(workload=several), file_of(machine)))["a"]
    assert one.power_w == 500 + 8 * 100  # what was measured is of all already
    assert one.cost_per_hour == pytest.approx(8 * (1000 + 300) + 1.3 * 1.5 * 2000)
    assumed = worths(assess(two(workload=several, power_w=None), file_of(machine)))["b"]
    assert assumed.power_w == 8 * (250 + 100)
    on_a_cpu = make_comparison([make_side("a")], [make_cell("a", several, device="cpu", power_w=500.0)])
    assert worths(assess(on_a_cpu, file_of(machine)))["a"].cost_per_hour == pytest.approx(1300 + 0.6 * 1.5 * 2000)


def test_work_for_energy_is_of_the_machine_and_of_the_facility() -> None:
    one = worths(assess(two(), file_of()))["a"]
    assert one.work_per_j == pytest.approx(180 / 500)
    assert one.work_per_facility_j == pytest.approx(180 / 750)


@pytest.mark.parametrize(
    ("workload", "unit", "lot", "size"),
    [("matmul/bf16/4096", "FLOP", "EFLOP", 1e18), (TOKENS, "token", "Mtoken", 1e6)],
)
def test_a_lot_is_of_what_the_workload_counts(workload: str, unit: str, lot: str, size: float) -> None:
    one = worths(assess(two(workload=workload), file_of()))["a"]
    assert (one.unit, one.lot) == (unit, lot)
    assert one.work_per_money is not None
    assert one.cost_per_lot == pytest.approx(size / one.work_per_money)


# ---------------------------------------------------------------- beside the reference


def test_the_ratio_of_work_for_money_carries_the_interval_of_the_work() -> None:
    dear = dataclasses.replace(MACHINE, match=("b",), price=MACHINE.price * 2)
    one = worths(assess(two(1.2), file_of(dear, MACHINE)))["b"]
    factor = 2500 / 3500
    assert one.money_ratio == pytest.approx(1.2 * factor)
    own, carried = make_ratio(1.2).interval, one.money_interval
    assert carried is not None
    assert (carried.low, carried.high) == pytest.approx((own.low * factor, own.high * factor))
    assert carried.n == own.n
    assert one.energy_ratio == pytest.approx(1.2)
    assert worths(assess(two(), file_of()))["a"].money_ratio is None


def test_less_power_is_more_work_for_energy() -> None:
    one = worths(assess(two(1.2, power_w=250.0), file_of()))["b"]
    assert one.energy_ratio == pytest.approx(2.4)
    assert one.energy_interval is not None
    assert one.energy_interval.low == pytest.approx(2 * make_ratio(1.2).interval.low)


def test_without_an_interval_of_the_work_there_is_none_of_the_money() -> None:
    comparison = changed(two(), 1, ratio=None, interval=None, verdict="undecided")
    found = assess(comparison, file_of())
    assert worths(found)["b"].money_ratio == pytest.approx(1.2)
    assert worths(found)["b"].money_interval is None
    assert worths(found)["b"].interval is None
    assert (lead(found).leader, lead(found).is_sure) == ("b", False)


# ---------------------------------------------------------------- what is not known


def test_assumed_power_is_used_only_where_none_was_measured() -> None:
    assuming = dataclasses.replace(MACHINE, power_w=800.0)
    found = assess(two(power_w=None), file_of(assuming))
    assert (worths(found)["a"].power_w, worths(found)["a"].is_power_assumed) == (500, False)
    assert (worths(found)["b"].power_w, worths(found)["b"].is_power_assumed) == (800, True)
    assert found.notes == ("b: the power of its cuda is assumed, not measured, where marked",)


def test_unknown_power_means_unknown_cost_and_no_lead() -> None:
    found = assess(two(power_w=None), file_of())
    assert worths(found)["b"].cost_per_hour is None
    assert worths(found)["b"].work_per_money is None
    assert worths(found)["b"].money_ratio is None
    assert found.leads == ()
    assert found.notes == ("b: the power of its cuda was not measured, and no power_w is assumed",)


def test_a_side_without_a_price_keeps_its_energy() -> None:
    found = assess(two(), file_of(dataclasses.replace(MACHINE, match=("a",))))
    assert worths(found)["b"].work_per_j == pytest.approx(1.2 * 180 / 500)
    assert worths(found)["b"].work_per_facility_j is None
    assert worths(found)["b"].cost_per_hour is None
    assert found.notes == ("b: the file of prices names no one machine for its cuda",)


def test_what_costs_nothing_has_no_work_for_money() -> None:
    free = dataclasses.replace(MACHINE, price=0.0, power_price_per_kwh=0.0)
    found = assess(two(), file_of(free))
    assert worths(found)["a"].work_per_money is None
    assert found.leads == ()


@pytest.mark.parametrize("verdict", ["failed", "incomparable", "missing", "unsupported"])
def test_what_is_no_answer_is_no_work(verdict: str) -> None:
    found = assess(changed(two(), 1, verdict=verdict), file_of())
    assert list(worths(found)) == ["a"]
    assert found.leads == ()


def test_what_is_no_rate_is_left_out_and_so_are_roofs() -> None:
    cells = [make_cell("a", "load/model", unit="s", better="lower"), make_cell("a", "roof/compute/bf16")]
    assert assess(make_comparison([make_side("a")], cells), file_of()).worths == ()


# ---------------------------------------------------------------- who leads


def test_the_lead_is_sure_where_the_whole_interval_says_so() -> None:
    assert (lead(assess(two(1.2), file_of())).leader, lead(assess(two(1.2), file_of())).is_sure) == ("b", True)
    assert (lead(assess(two(0.99), file_of())).leader, lead(assess(two(0.99), file_of())).is_sure) == ("a", False)


def test_a_break_even_price_is_exact_and_so_is_its_interval() -> None:
    # b does 1.2 times the work: it may cost 1.2 * 2500 - 1500 = 1500 an hour for the machine, 1.5 times the price.
    found = varied(assess(two(1.2), file_of()), "price", "b")
    assert found.stated == MACHINE.price
    assert [one.leader for one in found.stretches] == ["b", "b", "a", "a"]
    assert found.stretches[1].high == pytest.approx(1.5 * MACHINE.price)
    for stretch, end in ((found.stretches[0], 1.2 * 0.98), (found.stretches[2], 1.2 * 1.02)):
        assert stretch.high == pytest.approx((end * 2500 - 1500) / 1000 * MACHINE.price)
    assert (found.stretches[0].low, found.stretches[-1].high) == (0.5 * MACHINE.price, 2 * MACHINE.price)


def test_a_break_even_power_price_is_exact() -> None:
    # b is dearer and takes less power: 1500 + 0.25 y against 1000 + 0.5 y (with PUE 0.375 and 0.75), at equal work.
    dear = dataclasses.replace(MACHINE, match=("b",), price=1.5 * MACHINE.price)
    found = varied(assess(two(1.0, power_w=250.0), file_of(dear, MACHINE)), "power_price")
    (turn,) = {one.high for one in found.stretches if one.leader == "a"} & {
        one.low for one in found.stretches if one.leader == "b"
    }
    assert turn == pytest.approx(500 / 0.375)


def test_a_lifetime_works_the_other_way_round_and_is_exact() -> None:
    # a costs 1000 * 4 / y + 1500 an hour; b, twice the price at 1.2 times the work: (2000 * 4 / y + 1500) / 1.2.
    dear = dataclasses.replace(MACHINE, match=("b",), price=2 * MACHINE.price)
    found = varied(assess(two(1.2), file_of(dear, MACHINE)), "lifetime")
    assert found.stated == 4
    turns = {one.high for one in found.stretches if one.leader == "a"} & {
        one.low for one in found.stretches if one.leader == "b"
    }
    lifetime = 4 * (2000 - 1200) / (1.2 * 1500 - 1500)
    assert lifetime > 8  # beyond the range, so the lead stays with a
    assert turns == set()
    longer = varied(assess(two(1.2), file_of(dear, MACHINE, vary={"lifetime": (0.5, 4.0)})), "lifetime")
    (turn,) = {one.high for one in longer.stretches if one.leader == "a"} & {
        one.low for one in longer.stretches if one.leader == "b"
    }
    assert turn == pytest.approx(lifetime)


FIELDS = {
    "lifetime": "lifetime_years",
    "utilisation": "utilisation",
    "power_price": "power_price_per_kwh",
    "pue": "pue",
}


@pytest.mark.parametrize("assumption", FIELDS)
def test_the_lead_changes_there_when_the_file_itself_is_changed(assumption: str) -> None:
    # b is dearer and takes less power, so that each assumption alone can turn the lead.
    every = dataclasses.replace(MACHINE, yearly_cost=500_000.0)
    dear = dataclasses.replace(every, match=("b",), price=1.5 * MACHINE.price, yearly_cost=900_000.0)
    comparison = two(1.0, power_w=250.0)
    vary = {assumption: (0.1, 10.0)}
    found = varied(assess(comparison, file_of(dear, every, vary=vary)), assumption)
    turns = [one.high for one, after in itertools.pairwise(found.stretches) if one.leader != after.leader]
    (turn,) = turns
    leaders = []
    for value in (turn * 0.999, turn * 1.001):
        changes: dict[str, Any] = {FIELDS[assumption]: value}
        machines = [dataclasses.replace(machine, **changes) for machine in (dear, every)]
        leaders.append(lead(assess(comparison, file_of(*machines))).leader)
    assert leaders == [found.stretches[0].leader, found.stretches[-1].leader]


def test_an_assumption_stays_within_what_is_possible() -> None:
    found = assess(two(), file_of(dataclasses.replace(MACHINE, utilisation=0.8, pue=1.1)))
    use, pue = varied(found, "utilisation").stretches, varied(found, "pue").stretches
    assert (use[0].low, use[-1].high) == pytest.approx((0.4, 1.0))
    assert (pue[0].low, pue[-1].high) == pytest.approx((1.0, 2.2))


def test_assumptions_that_differ_between_sides_vary_by_a_factor() -> None:
    other = dataclasses.replace(MACHINE, match=("b",), pue=1.2)
    found = varied(assess(two(), file_of(other, MACHINE)), "pue")
    assert found.stated is None
    assert found.stretches[0].low == pytest.approx(1 / 1.2)  # below, b's would be less than 1
    assert found.stretches[-1].high == 2.0


def test_what_has_no_share_in_the_cost_is_not_varied() -> None:
    found = assess(two(), file_of(dataclasses.replace(MACHINE, power_price_per_kwh=0.0)))
    assert {one.assumption for one in lead(found).sensitivities} == {"price", "lifetime", "utilisation"}


def test_two_that_are_not_the_reference_are_told_apart_by_their_own_intervals() -> None:
    cells = [make_cell("a", TOKENS), make_cell("b", TOKENS, 1.5), make_cell("c", TOKENS, 1.52)]
    comparison = make_comparison([make_side("a"), make_side("b"), make_side("c")], cells)
    near = assess(comparison, file_of())
    assert (lead(near).leader, lead(near).is_sure) == ("c", False)
    far = assess(changed(comparison, 2, value=180 * 1.6, interval=Interval(1.57 * 180, 1.63 * 180, 3)), file_of())
    assert (lead(far).leader, lead(far).is_sure) == ("c", True)
    unknown = assess(changed(comparison, 1, interval=None), file_of())
    assert lead(unknown).is_sure is False


# ---------------------------------------------------------------- many sides


def test_of_many_sides_the_best_and_the_worst_are_chosen() -> None:
    names = [f"n{index}" for index in range(20)]
    comparison = make_comparison(
        [make_side(name) for name in names],
        [make_cell(name, ratio=None if index == 0 else 1 + index / 100) for index, name in enumerate(names)],
    )
    assert prices.foremost(comparison, 20) == list(range(20))
    assert prices.foremost(comparison, 6) == [0, 1, 2, 17, 18, 19]
    assert [[cell.side for cell in cells] for cells in prices.by_workload(comparison, [0, 19])] == [["n0", "n19"]]


def test_what_is_left_out_of_many_sides_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "MOST_SIDES", 2)
    found = assess(make_whole("a", "b", "c"), file_of())
    assert len({one.side for one in found.worths}) == 2
    assert found.notes[0].startswith("of 3 sides, the 2 with the best and worst ratios")
