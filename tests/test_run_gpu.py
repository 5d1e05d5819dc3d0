"""A whole run on the NVIDIA GPUs that are there: every family, and several GPUs loaded together."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import series
from tests.checkout import Checkout, by_status

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

WORKLOADS = (
    "matmul/bf16/1024",
    "matmul/fp32/1024@cache=cold",
    "decode/tiny/b1/ctx32@steps=4",
    "prefill/tiny/b1/p32",
    "dataload/tokens/warm@batches=4",
)


@pytest.fixture(scope="module")
def gpus() -> int:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    count: int = torch.cuda.device_count()
    return count


def test_every_family_runs_on_every_gpu_beside_its_measured_roof(gpus: int, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    process = checkout.vnbench("run", checkout.suite(*WORKLOADS), "--device", "cuda", "--out", checkout.out)
    plan, rows = checkout.read()
    assert by_status(rows).keys() == {"ok"}, process.stdout
    assert len(rows) == gpus * len(plan.workloads["cuda"])
    assert {row["device_uuid"] for row in rows} == {device.uuid for device in plan.devices}
    for row in rows:
        assert row["driver"] and row["cuda"]
        if not row["kernel"].startswith("roof/"):
            assert row["fraction_of_roof"] > 0


def test_every_row_has_the_state_of_its_gpu(gpus: int, tmp_path: Path) -> None:
    """A load of seconds: the driver's counters need them."""
    checkout = Checkout(tmp_path)
    suite = tmp_path / "seconds.toml"
    suite.write_text('workloads = ["matmul/bf16/4096"]\nreplicates = 1\n[policy]\nmin_samples = 5\nmax_s = 3.0\n')
    process = checkout.vnbench("run", suite, "--device", "cuda", "--out", checkout.out)
    (path,) = checkout.files()
    plan, rows = checkout.read()
    for row in (row for row in rows if row["workload"] == "matmul/bf16/4096"):
        assert row["device_error"] is None, process.stdout
        assert row["telemetry_readings"] >= 20
        assert 20 < row["power_w_mean"] < 2000
        assert row["sm_clock_mhz_min"] > 300
        assert 10 < row["temperature_c_max"] < 120
        assert row["throttle_reasons"] is not None
        assert row["throttle_s"] is not None
        assert row["vbios"] and row["power_limit_w"]
        assert "state-unknown" not in row["validity"]
        assert "unfit:shared-gpu" not in row["validity"], "the run's own worker is not foreign"
    source = series.find(path, plan)
    assert source is not None
    assert {one.device_index for one in series.read(source) if one.device == "cuda"} == set(range(gpus))


def test_auto_takes_the_gpus(gpus: int, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.vnbench("run", checkout.suite("matmul/fp32/1024"), "--out", checkout.out)
    plan, _ = checkout.read()
    assert [device.kind for device in plan.devices] == ["cuda"] * gpus


def test_several_gpus_are_loaded_together(gpus: int, tmp_path: Path) -> None:
    if gpus < 2:
        pytest.skip("one GPU only")
    checkout = Checkout(tmp_path)
    process = checkout.vnbench("run", checkout.suite("matmul/bf16/4096"), "--device", "cuda", "--out", checkout.out)
    assert "slowest cuda:" in process.stdout
    _, rows = checkout.read()
    for workload in {row["workload"] for row in rows}:
        group = [row for row in rows if row["workload"] == workload]
        assert len({row["concurrency_group"] for row in group}) == 1
        assert sorted(row["rank"] for row in group) == list(range(gpus))
