"""What is held against whom: workloads of ours, peers that do the same work, and the roof that bounds them all."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.device.cpu import last_level_cache_bytes
from bench.types import DeviceKind, Duet

OWN = ""  # vnbench's own environment
_STREAMS = platform.machine() in ("x86_64", "AMD64")  # stores past the cache, as stream.c has them

_USUAL = Duet(pairs=5, burst_s=0.15, warmup_min_s=0.2)
# Of models with gigabytes, whose drawing, writing and checking takes most of a session.
_LONG = Duet(pairs=3, burst_s=0.1, warmup_min_s=0.0, warmup_min_samples=1)


@dataclass(frozen=True)
class Peer:
    name: str
    environment: str  # of `tests.peers.environments.PACKAGES`, or OWN
    function: str  # file:function beside this one, called once for each launch of ours

    @property
    def workload(self) -> str:
        return f"call/tests/peers/{self.function}"


@dataclass(frozen=True)
class Line:
    """One piece of work, and everybody who does it in the same sessions."""

    work: float  # of a launch, in the unit that ours are counted in: what peers do in a call
    ours: tuple[str, ...]  # workloads: what does the work by default, and others of ours for the same product
    unit: str
    limit: str | None  # the roof; None where ours is one
    peers: tuple[Peer, ...]
    variables: Mapping[str, str] = field(default_factory=dict)  # what peers are told
    sessions: int = 5
    duet: Duet = _USUAL

    @property
    def name(self) -> str:
        return self.ours[0]


NUMPY = Peer("numpy", "numpy", "with_gemm.py:numpy_matmul")
TORCH = Peer("torch.mm", "transformers", "with_gemm.py:torch_mm")
PREFILL = (
    Peer("transformers", "transformers", "with_transformers.py:prefill"),
    Peer("llama.cpp", "llama-cpp", "with_llama_cpp.py:prefill"),
)
DECODE = (
    Peer("transformers", "transformers", "with_transformers.py:decode"),
    Peer("llama.cpp", "llama-cpp", "with_llama_cpp.py:decode"),
)


def lines(kind: DeviceKind) -> Sequence[Line]:
    """Those of a device. llama.cpp is built for the CPU, and C, numpy and their like run there only."""
    if kind == "cuda":
        return (
            _product("bf16", "8192", (8192, 8192, 8192), (TORCH,), packed=False),
            _prefill("llama-3.1-8b", 2048, PREFILL[:1], sessions=3),
            _decode("llama-3.1-8b", 32, DECODE[:1], sessions=3),
        )
    return (
        _product("fp32", "2048", (2048, 2048, 2048), (TORCH, NUMPY)),
        _product("bf16", "2048", (2048, 2048, 2048), (TORCH,)),
        _product("bf16", "8x4096x14336", (8, 4096, 14336), (TORCH,), limit="roof/memory/read"),
        _stream("read", 1, ("read",)),
        _stream("copy", 2, ("copy", *(["streaming_copy"] if _STREAMS else []))),
        _stream("triad", 3, ("triad", *(["streaming_triad"] if _STREAMS else []))),
        _prefill("smollm2-135m", 512, PREFILL),
        _decode("smollm2-135m", 32, DECODE),
        _prefill("llama-3.2-1b", 512, PREFILL, sessions=3, duet=_LONG),
        _decode("llama-3.2-1b", 8, DECODE, sessions=3, duet=_LONG),
    )


def _product(
    dtype: str,
    shape: str,
    sizes: tuple[int, int, int],
    peers: tuple[Peer, ...],
    limit: str | None = None,
    packed: bool = True,
) -> Line:
    name = f"matmul/{dtype}/{shape}"
    rows, inner, columns = sizes
    return Line(
        2.0 * rows * inner * columns,
        (name, f"{name}@backend=onednn") if packed else (name,),
        "FLOP/s",
        limit or f"roof/compute/{dtype}",
        peers,
        {"PEER_DTYPE": dtype, "PEER_SHAPE": f"{rows}x{inner}x{columns}"},
    )


def _stream(pattern: str, arrays: int, functions: Sequence[str]) -> Line:
    size = stream_bytes()
    peers = tuple(
        Peer("C, streaming stores" if "streaming" in function else "C", OWN, f"with_stream.py:{function}")
        for function in functions
    )
    return Line(float(arrays * size), (f"roof/memory/{pattern}",), "B/s", None, peers, {"PEER_BYTES": str(size)})


def stream_bytes() -> int:
    """An array of roof/memory's on the CPU: four times the last-level cache or 128 MiB, in whole rows of 512 KiB."""
    return -(-max(4 * last_level_cache_bytes(), 128 << 20) // (512 << 10)) * (512 << 10)


def _prefill(model: str, tokens: int, peers: tuple[Peer, ...], sessions: int = 5, duet: Duet = _USUAL) -> Line:
    variables = {"PEER_MODEL": model, "PEER_TOKENS": str(tokens)}
    name = f"prefill/{model}/b1/p{tokens}"
    return Line(float(tokens), (name,), "token/s", "roof/compute/bf16", peers, variables, sessions, duet)


def _decode(model: str, steps: int, peers: tuple[Peer, ...], sessions: int = 5, duet: Duet = _USUAL) -> Line:
    variables = {"PEER_MODEL": model, "PEER_TOKENS": "512", "PEER_STEPS": str(steps)}
    name = f"decode/{model}/b1/ctx512" + (f"@steps={steps}" if steps != 32 else "")
    return Line(float(steps), (name,), "token/s", "roof/memory/read", peers, variables, sessions, duet)
