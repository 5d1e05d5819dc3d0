"""The modes of a launch: what a CPU cannot, what is compiled or captured, and what a replay has to leave behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench import registry
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported
from bench.measure import measure
from bench.ready import prepared
from bench.types import Policy
from kernels import decode, prefill
from kernels._decoder_steps import Steps
from tests.conftest import prepare

WORKLOADS = ["prefill/tiny/b2/p32", "decode/tiny/b2/ctx16@steps=4"]


def case_of(workload: str, device: Any) -> Any:
    return prepare(prefill.KERNEL if workload.startswith("prefill") else decode.KERNEL, workload, device)


def with_mode(workload: str, mode: str) -> str:
    return f"{workload}{',' if '@' in workload else '@'}mode={mode}"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_cpu_has_no_graphs(cpu_device: CpuDevice, workload: str) -> None:
    with pytest.raises(Unsupported, match="a CPU has none"):
        case_of(with_mode(workload, "graph"), cpu_device)


@pytest.mark.slow
def test_compiled_half_layers_pass_the_check(cpu_device: CpuDevice) -> None:
    case = case_of(with_mode(WORKLOADS[1], "compiled"), cpu_device)
    before = case.check()
    case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    case.close()


def test_where_torch_cannot_compile_its_own_words_say_so(
    cpu_device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", refuse)
    workload = registry.resolve("decode/tiny/b1/ctx8@steps=1,mode=compiled")
    with pytest.raises(Unsupported, match="No working C"), prepared(workload, cpu_device, 60.0):
        pass


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_a_replay_leaves_behind_is_what_is_checked(cpu_device: CpuDevice, workload: str) -> None:
    """Forwards that are called again stand for graphs; one of them does nothing."""
    case = case_of(workload, cpu_device)
    calls = list(case._steps.calls)
    case._steps = Steps(calls, replayed=True)
    assert case.check().ok
    case._steps = Steps([*calls[:-1], lambda: None], replayed=True)
    assert not case.check().ok


def test_every_replayed_step_leaves_a_mark(cpu_device: CpuDevice) -> None:
    case = case_of("decode/tiny/b1/ctx8@steps=5", cpu_device)
    case._steps = Steps(case._steps.calls, replayed=True)
    measurement = measure(case, cpu_device, Policy(warmup_max_samples=5, min_samples=3, max_samples=3, max_s=0.001))
    assert measurement.marks_per_sample == 5


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["tiny", "tiny-alibi", "tiny-moe"])
@pytest.mark.parametrize("mode", ["graph", "compiled"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_graphs_replay_what_was_captured(cuda_device: Any, workload: str, mode: str, model: str) -> None:
    if model == "tiny-moe" and torch.cuda.get_device_capability()[0] not in (9, 10):
        pytest.skip("here experts wait for the host, so that nothing can be captured")
    case = case_of(with_mode(workload.replace("tiny", model), mode), cuda_device)
    assert case._steps.replayed
    before = case.check()
    case.launch()
    after = case.check()
    assert before.ok and after.ok, (before, after)
    case.close()


@pytest.mark.gpu
def test_steps_of_a_graph_leave_marks(cuda_device: Any) -> None:
    case = case_of("decode/tiny/b1/ctx8@steps=5,mode=graph", cuda_device)
    measurement = measure(case, cuda_device, Policy(warmup_max_samples=5, min_samples=3, max_samples=3))
    assert measurement.marks_per_sample == 5 * measurement.launches_per_sample
    case.close()
