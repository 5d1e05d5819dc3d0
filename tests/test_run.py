"""Runs that go well, as real processes: what is in the file, and what shares a process and what does not."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.checkout import Checkout, by_status, pid

pytestmark = pytest.mark.slow


class Finished:
    """A run that has ended, and what it left."""

    def __init__(self, checkout: Checkout, process: subprocess.CompletedProcess[str]) -> None:
        self.checkout = checkout
        self.process = process
        self.plan, self.rows = checkout.read()


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run on a node with an awkward name, into a folder with an awkward path."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "sitecustomize.py").write_text("import platform\nplatform.node = lambda: 'máy chủ 7/GPU'\n")
    checkout = Checkout(folder)
    checkout.out = folder / "kết quả đo" / "it's here"
    suite = checkout.suite("matmul/fp32/64", "fault/none", "fault/fine", "fault/slow", replicates=3)
    process = checkout.run(suite, "--label", "first light", "--tag", "rack=7", PYTHONPATH=str(folder))
    return Finished(checkout, process)


def test_a_run_ends_well_and_leaves_one_file_and_nothing_else(normal: Finished) -> None:
    assert normal.process.returncode == 0, normal.process.stderr
    (path,) = normal.checkout.files()
    assert f"results: {path}\n" in normal.process.stdout
    assert normal.checkout.incomplete() == []
    assert normal.checkout.workers() == []
    assert "Traceback" not in normal.process.stderr


def test_every_workload_has_a_row_for_each_replicate_and_so_have_its_roofs(normal: Finished) -> None:
    names = normal.plan.workloads["cpu"]
    assert {"matmul/fp32/64", "fault/none", "fault/fine", "fault/slow", "roof/compute/fp32"} == set(names)
    keys = Counter((row["workload"], row["device"], row["device_index"], row["replicate"]) for row in normal.rows)
    assert keys == Counter((name, "cpu", 0, replicate) for name in names for replicate in range(3))
    assert by_status(normal.rows).keys() == {"ok"}
    for row in normal.rows:
        if row["workload"] == "matmul/fp32/64":
            assert row["roofs"][0]["name"] == "roof/compute/fp32"
            assert row["fraction_of_roof"] > 0


def test_every_row_says_what_preparing_took_and_the_most_memory_it_held(normal: Finished) -> None:
    for row in normal.rows:
        metrics = {metric["name"]: metric for metric in row["metrics"]}
        assert 0 <= metrics["prepare_s"]["value"] < 60
        assert metrics["peak_memory_bytes"]["value"] > 10 << 20  # an interpreter alone has so much
        assert [metrics[name]["better"] for name in ("prepare_s", "peak_memory_bytes")] == [None, None]


def test_a_roof_states_how_it_was_searched_for(normal: Finished) -> None:
    for row in normal.rows:
        if row["workload"] == "roof/compute/fp32":
            metrics = {metric["name"]: metric["value"] for metric in row["metrics"]}
            assert metrics["search_budget_s"] == 7.0
            assert 0 < metrics["search_s"] < 30
            assert metrics["search_tried"] >= 3  # were the libraries loaded in the search's time, hardly one
    assert "roof/compute/fp32: best of " in normal.process.stdout


def test_passes_differ_in_order_and_replicates_in_process(normal: Finished) -> None:
    orders = []
    for replicate in range(3):
        rows = sorted((row for row in normal.rows if row["replicate"] == replicate), key=lambda row: row["started_at"])
        assert [row["sequence"] for row in rows] == list(range(len(rows)))
        orders.append(tuple(row["workload"] for row in rows))
    assert len(set(orders)) > 1  # by chance alone, one in 14,400 runs has all three alike
    measured = [row for row in normal.rows if row["kernel"] == "fault"]
    assert len({pid(row) for row in measured}) == 3
    assert len({(row["replicate"], pid(row)) for row in measured}) == 3


def test_each_pass_is_bracketed_by_the_calibration_workload(normal: Finished) -> None:
    for row in normal.rows:
        assert row["calibration_before_ns"] > 0
        assert row["calibration_after_ns"] > 0
    assert len({(row["calibration_before_ns"], row["calibration_after_ns"]) for row in normal.rows}) == 3


def test_an_awkward_node_name_is_safe_in_the_path_and_what_the_user_noted_is_kept(normal: Finished) -> None:
    (path,) = normal.checkout.files()
    assert path.parent == normal.checkout.out / "runs" / "m_y_ch_7_GPU"
    for row in normal.rows:
        assert row["node"] == "m_y_ch_7_GPU"
        assert (row["label"], row["tags"]) == ("first light", [("rack", "7")])


def test_a_budget_too_small_for_one_pass_says_so_in_every_row(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    process = checkout.run(checkout.suite("fault/none", "fault/fine", replicates=3), "--budget", "1ms")
    assert process.returncode == 3
    assert "the budget allows 1 of 3 replicates" in process.stderr
    plan, rows = checkout.read()
    assert plan.replicates == 1
    assert by_status(rows).keys() == {"timeout"}
    assert {row["reason"] for row in rows} == {"the budget was spent before this workload began"}


def test_devices_are_loaded_together_and_the_slowest_is_named(tmp_path: Path) -> None:
    """One of them loses its worker in mid-pass, which holds up no other and is alone afterwards."""
    checkout = Checkout(tmp_path)
    suite = checkout.suite("fault/none", "fault/fine", "fault/slow", "fault/crash-on-1")
    process = checkout.vnbench("run", suite, "--device", "fake:straggler", "--out", checkout.out)
    assert process.returncode == 3, process.stderr
    assert "SIMULATED" in process.stdout
    assert "fault/none: slowest fake:2, 20.0% behind the fastest" in process.stdout
    _, rows = checkout.read()
    assert len(rows) == 16
    (crash,) = (row for row in rows if row["status"] != "ok")
    assert (crash["status"], crash["workload"], crash["device_index"]) == ("crashed", "fault/crash-on-1", 1)
    alone = [row for row in rows if row["device_index"] == 1 and row["sequence"] > crash["sequence"]]
    together = [row for row in rows if row not in alone]
    assert {(row["rank"], row["world_size"]) for row in together} == {(rank, 4) for rank in range(4)}
    assert all(row["rank"] == row["device_index"] for row in together)
    assert len({row["concurrency_group"] for row in together}) == 1
    assert len({pid(row) for row in together if row["status"] == "ok"}) == 4 - (crash["sequence"] == 0)
    assert all((row["rank"], row["world_size"]) == (0, 1) for row in alone)
    assert not {row["concurrency_group"] for row in alone} & {row["concurrency_group"] for row in together}


def test_a_collective_is_measured_once_by_real_processes_while_no_other_worker_is(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    suite = checkout.suite("fault/none", "collective/all-reduce/w2/kib1", "collective/all-gather/w2/kib1")
    process = checkout.vnbench("run", suite, "--device", "fake:straggler", "--out", checkout.out)
    assert process.returncode == 0, process.stderr
    _, rows = checkout.read()
    assert by_status(rows).keys() == {"ok"}, process.stdout
    spanning = [row for row in rows if row["kernel"] == "collective"]
    assert len(spanning) == 2
    assert {(row["device_index"], row["rank"], row["world_size"], row["check_error"]) for row in spanning} == {
        (0, 0, 2, 0.0)
    }
    assert not {row["concurrency_group"] for row in spanning} & {
        row["concurrency_group"] for row in rows if row not in spanning
    }


def test_data_loader_processes_are_forked_from_a_worker_that_listens(tmp_path: Path) -> None:
    """A lock that the listening thread held at the fork would hold up the children for ever."""
    checkout = Checkout(tmp_path)
    workload = "dataload/tokens/warm@backend=torch,workers=2,batches=4"
    process = checkout.run(checkout.suite(workload, timeout_s=60))
    _, rows = checkout.read()
    assert by_status(rows).keys() == {"ok"}, process.stdout


def test_a_search_on_a_scripted_clock_comes_to_an_end(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    suite = checkout.suite("matmul/fp32/64", timeout_s=60)
    process = checkout.vnbench("run", suite, "--device", "fake:steady", "--out", checkout.out)
    _, rows = checkout.read()
    assert by_status(rows).keys() == {"ok"}, process.stdout
    assert {row["candidate"] is not None for row in rows if row["kernel"] == "roof/compute"} == {True}
