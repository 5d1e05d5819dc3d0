"""``bench.fitness``: each rule fires where it should and nowhere else, and says what it saw."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from bench import fitness, schema
from bench.rule import Rule, State
from tests.checkout import ROOT

BEGIN = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
# A second on a GPU with nothing to be said against it.
FINE: dict[str, Any] = {
    "device": "cuda",
    "timed_from": BEGIN,
    "timed_until": BEGIN + dt.timedelta(seconds=1),
    "sm_clock_mhz_mean": 1980.0,
    "temperature_c_max": 60.0,
    "throttle_reasons": ["gpu_idle"],
    "throttle_s": 0.0,
}
CPU = {"host_cpu_s": 100.0}

# flag → (state that raises it, what it says was measured), … and states that do not raise it
CASES: dict[str, tuple[list[tuple[dict[str, Any], str]], list[dict[str, Any]]]] = {
    "unfit:no-answer": ([({"device_error": "GPU is lost"}, "GPU is lost")], [{"device_error": None}]),
    "unfit:xid": ([({"xids": [79]}, "79"), ({"xids": [31, 48]}, "31, 48")], [{"xids": []}, {"xids": None}]),
    "unfit:ecc-uncorrected": ([({"ecc_uncorrected_delta": 1}, "1")], [{"ecc_uncorrected_delta": 0}]),
    "unfit:row-remap-failed": ([({"row_remap_failed": True}, "failed")], [{"row_remap_failed": False}]),
    "unfit:row-remap-pending": ([({"row_remap_pending": True}, "pending")], [{"row_remap_pending": False}]),
    "unfit:throttled": (
        [
            ({"throttle_s": 0.2, "throttle_reasons": ["hw_slowdown"]}, "20% of the time: hw_slowdown"),
            ({"throttle_s": 0.011, "throttle_reasons": ["gpu_idle"]}, "1% of the time"),
            ({"throttle_s": None, "throttle_reasons": ["cpu_thermal"], "device": "cpu"}, "at some moment: cpu_thermal"),
        ],
        [{"throttle_s": 0.01}, {"throttle_s": 0.0, "throttle_reasons": ["hw_slowdown"]}, {"power_cap_s": 1.0}],
    ),
    "unfit:too-hot": (
        [({"temperature_margin_c_min": 4.0}, "4 °C below its slowdown")],
        [{"temperature_margin_c_min": 5.0}, {"temperature_margin_c_min": 40.0}],
    ),
    "unfit:nvlink-down": ([({"nvlinks_down": 1}, "1")], [{"nvlinks_down": 0}]),
    "unfit:pcie-width": (
        [({"pcie_width": 8, "pcie_width_max": 16}, "x8")],
        [{"pcie_width": 16, "pcie_width_max": 16}, {"pcie_width": 8, "pcie_width_max": None}],
    ),
    "unfit:power-limit": (
        [({"power_limit_w": 500.0, "power_limit_default_w": 700.0}, "500 of 700 W")],
        [
            {"power_limit_w": 700.0, "power_limit_default_w": 700.0},
            {"power_limit_w": 699.5, "power_limit_default_w": 700.0},
            {"power_limit_w": 800.0, "power_limit_default_w": 700.0},
        ],
    ),
    "unfit:clocks-locked": ([({"clocks_locked": True}, "locked")], [{"clocks_locked": False}]),
    "unfit:shared-gpu": ([({"foreign_gpu_processes": 2}, "2")], [{"foreign_gpu_processes": 0}]),
    "unfit:calibration-shift": (
        [
            ({"calibration_before_ns": 1000, "calibration_after_ns": 1051}, "5.1%"),
            ({"calibration_before_ns": 1100, "calibration_after_ns": 1000}, "10.0%"),
        ],
        [
            {"calibration_before_ns": 1000, "calibration_after_ns": 1049},
            {"calibration_before_ns": None, "calibration_after_ns": 1000},
            {"calibration_before_ns": 0, "calibration_after_ns": 1000},
        ],
    ),
    "unfit:steal": (
        [(CPU | {"steal_fraction": 0.0101}, "1.0%"), ({"steal_fraction": 3 / 94, "host_cpu_s": 0.94}, "3.2%")],
        [
            CPU | {"steal_fraction": 0.01},
            CPU | {"steal_fraction": None},
            {"steal_fraction": 0.5, "host_cpu_s": None},
            {"steal_fraction": 2 / 94, "host_cpu_s": 0.94},  # two ticks are no evidence
        ],
    ),
    "unfit:foreign-load": (
        [
            (CPU | {"foreign_cpu_fraction": 0.0501}, "5.0%"),
            ({"foreign_cpu_fraction": 0.15, "host_cpu_s": 0.2}, "15.0%"),
        ],
        [
            CPU | {"foreign_cpu_fraction": 0.05},
            CPU | {"foreign_cpu_fraction": None},
            {"foreign_cpu_fraction": 0.1, "host_cpu_s": 0.2},
        ],
    ),
    "unfit:cpu-quota": ([({"cpu_quota_s": 0.5}, "0.50 s")], [{"cpu_quota_s": 0.01}, {"cpu_quota_s": 0.0}]),
    "unfit:swap": ([({"swapped_bytes": 3 << 20}, "3.00 MiB")], [{"swapped_bytes": 1 << 20}, {"swapped_bytes": 0}]),
    "unfit:cpu-governor": (
        [
            ({"cpu_governor": "powersave"}, "powersave"),
            ({"cpu_governor": "ondemand+performance"}, "ondemand+performance"),
            ({"cpu_governor": "powersave/balance_power"}, "powersave/balance_power"),
        ],
        [{"cpu_governor": "performance"}, {"cpu_governor": "powersave/balance_performance"}, {"cpu_governor": None}],
    ),
    "unfit:debug-build": ([({"debug": ["CUDA_LAUNCH_BLOCKING=1"]}, "CUDA_LAUNCH_BLOCKING=1")], [{"debug": []}]),
    "state-unknown": (
        [
            ({"sm_clock_mhz_mean": None}, "no clock"),
            ({"sm_clock_mhz_mean": None, "throttle_reasons": None}, "no clock, throttling"),
            ({"sm_clock_mhz_mean": None, "telemetry_obstacle": "No. Do this"}, "no clock: No. Do this"),
            ({"throttle_s": None}, "no reading over a part of its time"),
        ],
        [{"device": "cpu", "sm_clock_mhz_mean": None}, {"device": "fake", "sm_clock_mhz_mean": None}],
    ),
    "low-clock": (
        [({"sm_clock_mhz_mean": 1500.0, "sm_clock_max_mhz": 1980.0, "throttle_reasons": []}, "1500 of 1980 MHz")],
        [
            {"sm_clock_mhz_mean": 1700.0, "sm_clock_max_mhz": 1980.0, "throttle_reasons": []},
            {"sm_clock_mhz_mean": 345.0, "sm_clock_max_mhz": 1980.0, "throttle_reasons": ["gpu_idle"]},
            {"sm_clock_mhz_mean": 1200.0, "sm_clock_max_mhz": None, "throttle_reasons": []},
            {"device": "cpu", "throttle_reasons": None, "sm_clock_max_mhz": 1980.0},
        ],
    ),
    "power-capped": (
        [({"power_cap_s": 0.7, "throttle_reasons": ["sw_power_cap"]}, "70% of the time: sw_power_cap")],
        [{"power_cap_s": 0.0}, {"throttle_s": 1.0, "power_cap_s": 0.0}],
    ),
    "ecc-corrected": ([({"ecc_corrected_delta": 3}, "3")], [{"ecc_corrected_delta": 0}]),
    "output-differs": ([({"output_difference": "cpu: element [1]"}, "cpu: element [1]")], [{"output_sha256": "5f"}]),
    "roof-too-low": (
        [({"fraction_of_roof": 1.021}, "102.1%")],
        [{"fraction_of_roof": 1.02}, {"fraction_of_roof": 0.3}, {"fraction_of_roof": None}],
    ),
}
BY_HAND = {"no-steady-state", "mixed-environment", "cut-short", "unwatched", "no-samples", "simulated"}


def raised(state: State) -> dict[str, str]:
    return {one.flag: one.measured for one in fitness.findings(state)}


def test_nothing_speaks_against_a_fine_gpu_nor_against_a_state_of_which_nothing_is_known() -> None:
    assert raised(FINE) == {}
    assert raised(dict.fromkeys(schema.SCHEMA.names)) == {}


def test_every_rule_is_tried_here() -> None:
    assert set(CASES) | BY_HAND == set(fitness.RULES)


@pytest.mark.parametrize(
    ("flag", "state", "measured"),
    [(flag, state, measured) for flag, (fires, _) in CASES.items() for state, measured in fires],
)
def test_it_fires_and_says_what_it_saw(flag: str, state: dict[str, Any], measured: str) -> None:
    found = raised(FINE | state)
    assert found == {flag: measured}, "this flag, and no other"


@pytest.mark.parametrize(("flag", "state"), [(flag, state) for flag, (_, still) in CASES.items() for state in still])
def test_it_does_not_fire(flag: str, state: dict[str, Any]) -> None:
    assert flag not in raised(FINE | state)


def test_the_document_has_every_rule_as_it_is() -> None:
    document = (ROOT / "docs" / "telemetry.md").read_text()
    _, _, rest = document.partition("<!-- rules: begin -->\n")
    assert rest.partition("\n<!-- rules: end -->")[0] == fitness.markdown()


def test_only_a_machine_is_unfit() -> None:
    others = {"state-unknown", "low-clock", "power-capped", "ecc-corrected", "output-differs", "roof-too-low"} | BY_HAND
    assert {name for name in fitness.RULES if not fitness.is_unfit(name)} == others


@pytest.mark.parametrize("rule", fitness.RULES.values(), ids=lambda rule: rule.flag)
def test_a_rule_says_what_it_means_what_its_limit_is_and_what_to_do(rule: Rule) -> None:
    assert fitness.RULES[rule.flag] is rule
    assert rule.word
    assert rule.meaning
    assert rule.remedy
    assert rule.show_limit or rule.flag in BY_HAND


def test_flags_that_the_columns_cannot_judge_are_kept_and_the_others_judged_anew() -> None:
    row = FINE | CPU | {"steal_fraction": 0.0, "throttle_s": 0.5}
    row |= {"validity": ["unfit:steal", "unfit:foreign-load", "cut-short", "a-flag-of-another-version"]}
    assert fitness.validity(row) == ["unfit:throttled", "unfit:foreign-load", "cut-short", "a-flag-of-another-version"]
    assert fitness.validity(row | {"validity": None}) == ["unfit:throttled"]


def test_a_finding_names_its_limit_and_the_remedy() -> None:
    (found,) = fitness.findings(FINE | {"nvlinks_down": 2})
    assert (found.measured, found.limit, found.value) == ("2", "0", 2.0)
    assert found.remedy == fitness.RULES["unfit:nvlink-down"].remedy
