"""What `make peers` is made of; nothing here installs anything or asks the network."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.device import select
from bench.device.cpu import CpuDevice
from bench.types import DeviceKind, Duet
from kernels._decoder_shape import SHAPES, Shape
from tests.conftest import prepare
from tests.kernels import test_decoder_transformers as beside_transformers
from tests.peers import environments, gguf_file, parts, play, report, with_llama_cpp, with_stream, with_transformers
from tests.peers.environments import NotInstalled
from tests.peers.lines import NUMPY, OWN, TORCH, Line, Peer, lines
from tests.peers.recording import PUBLISHED, Recording, load
from tests.stream import COPY, TRIAD, Stream

SKINNY = "matmul/bf16/8x4096x14336"  # its weight does not fit into most caches, hot as it is
KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")
MACHINE = {
    "kind": "cpu",
    "commit": "0123456789ab",
    "name": "a CPU",
    "threads": 2,
    "memory_bytes": 24 << 30,
    "os": "an OS",
    "python": "3.13.1",
    "compiler": "cc 14",
}
HERE = dataclasses.replace(NUMPY, environment=OWN)
SMALL = Line(
    2.0 * 64**3,
    ("matmul/fp32/64",),
    "FLOP/s",
    "roof/memory/read",
    (HERE,),
    {"PEER_DTYPE": "fp32", "PEER_SHAPE": "64x64x64"},
    duet=Duet(pairs=3, burst_s=0.004, burst_max_samples=4, warmup_min_s=0.0, warmup_min_samples=1),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_has_workloads_roofs_and_peers_with_a_check(kind: DeviceKind) -> None:
    for line in lines(kind):
        for name in (*line.ours, *([line.limit] if line.limit else [])):
            assert registry.resolve(name).name == name
        for workload in map(registry.resolve, line.ours):
            roofs = workload.kernel.roofs(workload.params, kind)
            assert line.limit in (None, *roofs) or line.name == SKINNY
        for peer in line.peers:
            assert peer.environment in (OWN, *environments.PACKAGES)
            file, _, function = peer.function.partition(":")
            module = importlib.import_module(f"tests.peers.{file.removesuffix('.py')}")
            assert callable(getattr(module, function))
            assert callable(getattr(module, f"check_{function}")), "an answer that nobody looks at may be any"


def test_a_session_holds_ours_and_a_peer_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environments.ROOT)
    torch_here = dataclasses.replace(TORCH, environment=OWN)
    line = dataclasses.replace(SMALL, peers=(HERE, torch_here), limit=None)
    who = play.contestants(line, None, {}, {"PEER_DEVICE": "cpu"})
    rows = play.session(line, who, select.cpu_info("a test"), 0)
    assert play.failures(rows) == {}
    found = play.record(line, who, rows, 0)
    assert found["ours"].keys() == {"matmul/fp32/64"}
    assert found["log_ratios"]["matmul/fp32/64"].keys() == found["peers"].keys() == {"numpy", "torch.mm"}
    assert all(1e6 < rate < 1e13 for rate in (*found["peers"].values(), *found["ours"].values()))
    json.dumps(found)


def test_a_peer_that_cannot_do_the_work_is_the_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environments.ROOT)
    line = dataclasses.replace(SMALL, variables={"PEER_SHAPE": "64x64"}, limit=None)
    who = play.contestants(line, None, {}, {"PEER_DEVICE": "cpu"})
    failures = play.failures(play.session(line, who, select.cpu_info("a test"), 0))
    assert failures.keys() == {"peer-0"}
    assert "unpack" in failures["peer-0"]
    assert who.without("numpy").peers == {}


def _row(burst_ns: float, value: float = 0.0, **columns: Any) -> play.Row:
    """Three bursts of four samples; one in four is quick by luck, and the quartile of a burst lies beside it."""
    elapsed_ns = [round(burst_ns)] * 12
    return {
        "status": "ok",
        "elapsed_ns": elapsed_ns,
        "burst_samples": 4,
        "median_ns": burst_ns,
        "value": value or 1e9 / burst_ns,
        **columns,
    }


def _rows(ours_ns: float = 1e6, peer_ns: float = 3e6) -> dict[str, play.Row]:
    work = SMALL.work
    return {
        "ours-0": _row(ours_ns, work / ours_ns * 1e9, unit="FLOP/s", bytes_moved=3 * 4 * 64**2, flops=work),
        "limit": _row(5e5, 2e9, unit="B/s", bytes_moved=6 * 4 * 64**2, flops=None),
        "peer-0": _row(peer_ns, unit="call/s"),
    }


WHO = play.contestants(SMALL, "roof/memory/read", {}, {})


def test_who_takes_three_times_as_long_is_three_times_behind() -> None:
    found = play.record(SMALL, WHO, _rows(), 4)
    assert found["log_ratios"] == {"matmul/fp32/64": {"numpy": pytest.approx(math.log(3))}}
    assert found["ours"]["matmul/fp32/64"] == pytest.approx(3 * found["peers"]["numpy"])
    assert (found["line"], found["session"]) == ("matmul/fp32/64", 4)


def test_a_limit_is_what_ours_would_reach_there() -> None:
    """The roof moves twice as many bytes in half of the time."""
    found = play.record(SMALL, WHO, _rows(), 0)
    assert found["limit"]["matmul/fp32/64"] == pytest.approx(4 * found["ours"]["matmul/fp32/64"])
    assert found["limit"]["workload"] == "roof/memory/read"
    compute = _row(1e6, unit="FLOP/s", flops=3 * SMALL.work, bytes_moved=1)
    assert play.limit_rate(SMALL.work, _rows()["ours-0"], compute) == pytest.approx(3 * SMALL.work * 1e3)


def test_ours_and_peers_count_the_same_work() -> None:
    other = dataclasses.replace(SMALL, work=SMALL.work / 2)
    with pytest.raises(ValueError, match="and its peers"):
        play.record(other, WHO, _rows(), 0)


@pytest.fixture
def recorded() -> Recording:
    recording = Recording(MACHINE, versions={"numpy": {"numpy": "2.4.6"}})
    recording.limits["roof/compute/fp32"] = {"candidate": "roof/compute/fp32@shape=2048", "tried": 9, "spent_s": 12.3}
    for number, peer_ns in enumerate((0.80e6, 0.81e6, 0.82e6)):
        session = play.record(SMALL, WHO, _rows(peer_ns=peer_ns), number)
        recording.sessions.append(session | {"at": "2026-01-02T03:04:05+00:00"})
    return recording


def test_a_line_that_ours_loses_stays_in_the_table(recorded: Recording) -> None:
    (one,) = report.comparisons(recorded, [SMALL])
    assert one.is_behind
    assert one.of_limit == pytest.approx(0.25)
    (row,) = report.markdown(recorded, [SMALL]).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["`matmul/fp32/64`", "524 MFLOP/s", "25%", "numpy"]
    assert re.fullmatch(r"\*\*0\.81 \(0\.7\d–0\.8\d\)\*\*", cells[5])
    assert cells[6] == "3"


def test_who_is_not_there_has_a_row_that_says_why(recorded: Recording) -> None:
    recorded.absent["llama-cpp"] = "error: command 'c++' failed"
    recorded.failed[SMALL.name] = {"other": "crashed: out | of breath"}
    peers = (Peer("llama.cpp", "llama-cpp", "with_llama_cpp.py:decode"), Peer("other", OWN, "x.py:y"))
    absent, failed = report.markdown(recorded, [dataclasses.replace(SMALL, peers=peers)]).splitlines()[2:]
    assert "| not installed: error: command 'c++' failed |" in absent
    assert "| crashed: out / of breath |" in failed
    assert absent.count("|") == failed.count("|") == 8


def test_two_sessions_are_too_few_to_say(recorded: Recording) -> None:
    recorded.sessions.pop()
    assert "too few sessions" in report.markdown(recorded, [SMALL])


def test_the_machine_and_the_day_are_told(recorded: Recording) -> None:
    text = report.machine(recorded)
    assert "on 2026-01-02 at commit 0123456789ab: a CPU, 2 threads, 24 GiB" in text
    assert "numpy 2.4.6" in text
    assert "the best of 9 tried in 12 s" in text


def test_a_recording_is_what_it_was_after_it_was_saved(recorded: Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "there" / "recording.json")
    assert load(tmp_path / "there" / "recording.json") == recorded


def test_the_page_shows_what_was_recorded_and_speaks_of_what_was_lost() -> None:
    recording = load(PUBLISHED)
    shown = lines(recording.machine["kind"])
    text = report.DOCUMENT.read_text()
    assert text == report.document(text, recording, shown)
    reasons = text.partition("## Where ours is behind")[2]
    for one in report.comparisons(recording, shown):
        if one.is_behind:
            family = one.workload.partition("@")[0]
            assert f"`{family}` beside {one.peer}" in reasons, f"no word of {one.workload} beside {one.peer}"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """An installer that does nothing, and what it was asked for."""
    asked: list[list[str]] = []

    def run(command: list[str]) -> None:
        asked.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(environments, "_run", run)
    yield asked


def test_an_environment_is_made_once_and_again_when_it_has_changed(
    pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environments.interpreter("numpy", tmp_path)
    assert [command[2] for command in pip] == ["venv", "pip"]
    assert pip[1][-1] == "numpy"
    assert str(environments.CONSTRAINTS) in pip[1]
    assert environments.interpreter("numpy", tmp_path) == python
    assert len(pip) == 2
    monkeypatch.setitem(environments.PACKAGES, "numpy", ("numpy", "another"))
    environments.interpreter("numpy", tmp_path)
    assert [command[2] for command in pip[2:]] == ["pip"]


def test_what_cannot_be_installed_is_told_in_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "much ado\nERROR: no matching distribution\n\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(NotInstalled, match=r"^ERROR: no matching distribution$"):
        environments.interpreter("numpy", tmp_path)
    assert not (tmp_path / "numpy" / "peers.json").exists()


@pytest.mark.parametrize("model", ["tiny", "smollm2-135m", "llama-3.2-1b", "llama-3.1-8b"])
def test_the_file_for_llama_cpp_has_the_parameters_of_the_shape(model: str) -> None:
    shape = SHAPES[model]
    matrices = dict(gguf_file.matrices(shape))
    counted = sum(rows * columns for rows, columns in matrices.values()) + len(gguf_file.norms(shape)) * shape.width
    assert counted == shape.parameters
    factors = gguf_file.rope_factors(shape)
    assert len(factors) == shape.head_width // 2
    assert min(factors) == pytest.approx(1.0)
    assert max(factors) == pytest.approx(shape.rope_scaling.factor if shape.rope_scaling else 1.0)


@pytest.mark.parametrize("model", ["tiny", "smollm2-135m", "llama-3.2-1b"])
def test_transformers_is_given_the_shape_whose_logits_agree_with_ours(model: str) -> None:
    agreed = beside_transformers.llama_config(SHAPES[model])
    assert with_transformers.llama_config(SHAPES[model]) == {
        key: value for key, value in agreed.items() if key != "sliding_window"
    }


def test_the_parts_of_a_step_are_all_its_matrices(cpu_device: CpuDevice) -> None:
    case = prepare(registry.kernels()["decode"], "decode/tiny/b1/ctx32@steps=1", cpu_device)
    shape = SHAPES["tiny"]
    matrices = shape.layers * shape.layer_matrix_parameters + shape.vocabulary * shape.width
    found = parts.products(case)
    assert sum(size for _, size in found.values()) == 2 * matrices
    took_s = parts.in_turns({name: run for name, (run, _) in found.items()})
    assert all(seconds > 0 for seconds in took_s.values())


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_has_the_parameters_of_the_shape(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", dataclasses.replace(SHAPES["tiny"], tied=tied))
    for key, value in {"MODEL": "tiny", "TOKENS": "8", "STEPS": "2", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"PEER_{key}", value)
    llama = with_transformers._Llama()
    prefilled = llama.prefill()
    assert llama.is_right(prefilled)
    assert llama.is_right(llama.decode())
    assert llama.prefill().equal(prefilled), "every call begins anew"
    monkeypatch.setattr(llama, "shape", SHAPES["smollm2-135m"])
    assert not llama.is_right(prefilled)


def test_transformers_is_wrong_with_a_cache_at_another_position_with_other_keys_or_a_layer_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in {"MODEL": "tiny", "TOKENS": "8", "STEPS": "2", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"PEER_{key}", value)
    llama = with_transformers._Llama()
    rewind, layer = llama._rewind, llama.model.model.layers[1]

    def alter_keys(position: int) -> None:
        rewind(position)
        with torch.inference_mode():
            llama._cache.layers[0].keys[:, :, 3].neg_()

    for owner, name, broken in [
        (llama, "_rewind", lambda position: rewind(position - 1)),
        (llama, "_rewind", alter_keys),
        (layer, "forward", lambda hidden, **_: hidden),
    ]:
        llama.prefill()
        assert llama.is_right(llama.decode())
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            assert not llama.is_right(llama.decode())


class FakeLlamaCpp:
    """The calls of llama.cpp that we make; logits that all tokens of a context bear upon."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.llama_log_callback = lambda function: function
        self.llama_log_set = self.llama_backend_init = self.llama_free = lambda *_: None
        self.llama_model_default_params = lambda: None
        self.llama_context_default_params = SimpleNamespace
        self.llama_model_load_from_file = lambda path, params: "model"
        self.llama_model_n_params = lambda model: shape.parameters
        self.llama_model_size = lambda model: 2 * shape.parameters
        self.llama_get_memory = lambda context: context
        self.llama_memory_clear = lambda context, data: context.clear()
        self.llama_memory_seq_pos_max = lambda context, sequence: len(context) - 1
        self.llama_batch_get_one = lambda tokens, count: tokens[:count]

    def llama_init_from_model(self, model: str, params: object) -> list[int]:
        return []

    def llama_memory_seq_rm(self, context: list[int], sequence: int, begin: int, end: int) -> None:
        del context[begin:]

    def llama_decode(self, context: list[int], tokens: list[int]) -> int:
        context.extend(tokens)
        return 0

    def llama_get_logits_ith(self, context: list[int], index: int) -> Any:
        logits = np.random.default_rng(context).standard_normal(self.shape.vocabulary, dtype=np.float32)
        return logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def test_llama_cpp_is_wrong_with_a_context_that_was_not_rewound_or_has_another_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in {"MODEL": "tiny", "TOKENS": "8", "STEPS": "2", "GGUF": "a file"}.items():
        monkeypatch.setenv(f"PEER_{key}", value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    library = FakeLlamaCpp(SHAPES["tiny"])
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    llama = with_llama_cpp._Llama()
    assert llama.is_right(llama.prefill())
    assert llama.is_right(llama.decode())
    llama._context[3] += 1
    assert not llama.is_right(llama.decode())
    assert llama.is_right(llama.prefill())
    monkeypatch.setattr(library, "llama_memory_seq_rm", lambda *_: None)
    assert llama.is_right(llama.decode())
    assert not llama.is_right(llama.decode()), "behind the steps of the call before"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("pattern", ["read", "copy", "triad", "streaming_copy", "streaming_triad"])
def test_stream_in_c_does_what_it_says(
    pattern: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "stream"
    for key, value in {"PEER_BYTES": str(1 << 20), "OMP_NUM_THREADS": "2", "PEER_FOLDER": str(folder)}.items():
        monkeypatch.setitem(os.environ, key, value)
    with_stream._stream.cache_clear()
    check = getattr(with_stream, f"check_{pattern}")
    assert check() is True
    stream, run = with_stream._stream(), Stream.run
    if pattern == "read":
        monkeypatch.setattr(stream, "run", lambda number: run(stream, number) + 1)
    else:  # an array that does not come out as it should
        monkeypatch.setattr(stream, "run", lambda number: np.copyto(stream.a, stream.b + 1))
    assert check() is False
    with_stream._stream.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_stream_in_c_keeps_its_threads(tmp_path_factory: pytest.TempPathFactory) -> None:
    def tasks() -> set[Path]:
        return set(Path("/proc/self/task").iterdir())

    before = tasks()
    stream = Stream(1 << 20, 3, tmp_path_factory.getbasetemp() / "stream")
    stream.run(COPY)
    kept = tasks() - before
    assert len(kept) == 2, "the caller is the third"
    assert stream.is_right(TRIAD)
    assert kept <= tasks()
