"""``bench.diff``: what differs between two results, key by key."""

from __future__ import annotations

from collections.abc import Mapping

from bench import environment
from bench.diff import Difference, differences
from bench.environment import Environment
from bench.schema import Row
from tests.results import CPU, make_plan, make_row

CAPTURED = environment.capture(CPU)


def row(details: Mapping[str, object] | None = None, **keys: object) -> Row:
    made = Environment({**CAPTURED.keys, **keys}, CAPTURED.details if details is None else details)
    return make_row(make_plan()) | made.columns


def test_equal_environments_have_no_difference() -> None:
    assert differences([row(), row()], [row()]) == []


def test_each_checked_key_is_named_with_its_kind_and_both_values() -> None:
    assert differences([row(driver="580.1")], [row(driver="590.2")]) == [
        Difference("software", "driver", '"580.1"', '"590.2"')
    ]
    assert differences([row(cpu_governor=None)], [row(cpu_governor="performance")]) == [
        Difference("settings", "cpu_governor", "null", '"performance"')
    ]


def test_hardware_comes_first_and_every_key_is_compared() -> None:
    for key in [key for keys in environment.KEYS.values() for key in keys if key != "memory_bytes"]:
        assert [one.key for one in differences([row(None, **{key: "a"})], [row(None, **{key: "b"})])] == [key]
    both = differences([row(torch="1", cpu_model="x")], [row(torch="2", cpu_model="y")])
    assert [one.kind for one in both] == ["hardware", "software"]


def test_memory_that_a_boot_took_is_no_difference() -> None:
    assert differences([row(memory_bytes=1_000_000)], [row(memory_bytes=1_005_000)]) == []
    assert [one.key for one in differences([row(memory_bytes=1_000_000)], [row(memory_bytes=2_000_000)])] == [
        "memory_bytes"
    ]


def test_details_are_named_by_their_path() -> None:
    a, b = {"host": {"smt": "on", "turbo": True}, "x": 1}, {"host": {"smt": "off", "turbo": True}}
    assert differences([row(a)], [row(b)]) == [Difference("details", "host.smt", '"on"', '"off"')], (
        "what one side never recorded is no difference"
    )


def test_a_result_that_is_mixed_shows_all_its_values() -> None:
    (found,) = differences([row(driver="1"), row(driver="2")], [row(driver="2")])
    assert (found.a, found.b) == ('"1" | "2"', '"2"')


def test_rows_that_were_never_measured_say_nothing() -> None:
    empty = row() | dict.fromkeys(CAPTURED.columns)
    assert differences([row(), empty], [row()]) == []


def test_gpus_are_compared_one_by_one() -> None:
    def limited(gpu: int) -> list[Row]:
        return [
            row(power_limit_w=500.0 if index == gpu else 700.0) | {"device": "cuda", "device_index": index}
            for index in range(3)
        ]

    assert differences(limited(1), limited(1)) == []
    (found,) = differences(limited(1), limited(2))
    assert (found.key, found.a) == ("power_limit_w", "cuda:0 700.0, cuda:1 500.0, cuda:2 700.0")
