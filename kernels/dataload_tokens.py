"""``dataload/tokens``: shuffled windows of a token file, as int64 batches on the device.

    dataload/tokens/warm                    the file is in the page cache
    dataload/tokens/cold                    every sample reads it from the disk
    dataload/tokens/warm@backend=torch      the same batches through ``torch.utils.data.DataLoader``

One launch is one epoch: every window once, in one seeded order without replacement, never cut off by time (a cold pass
that stops early would be flattered by what read-ahead fetched for the rest). An epoch of the standard 64 MiB takes tens
of milliseconds on one core. A cold file is
evicted, and proved to be, before every sample.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.device.base import Device
from bench.errors import Unsupported, UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels import _page_cache
from kernels._token_file import BATCH, TOKEN_BYTES, WINDOW, ensure_file, epoch_order, token_block
from kernels._token_lanes import DataLoaderLane, Lane, StagedLane

_WARM_AT_LEAST = 0.99  # of the pages resident
_COLD_AT_MOST = 0.01
_HOLDS = 8  # pairs of passes over the reference that keep a GPU busy at the start of a check


@dataclass(frozen=True)
class TokensParams:
    cache: str = axis(choices=("warm", "cold"))
    backend: str = option("mmap", choices=("mmap", "pread", "torch"))
    workers: int = option(0)  # processes of torch's DataLoader
    batches: int = option(512)  # in the file: 512 × 32 × 2049 tokens × 2 B = 64 MiB

    def __post_init__(self) -> None:
        if self.workers and self.backend != "torch":
            raise UsageError(f"backend {self.backend} has no workers", "Leave workers out, or add backend=torch")
        if self.batches < 1:
            raise UsageError("batches=0 leaves nothing to load", "Write a number from 1")

    @property
    def windows(self) -> int:
        return self.batches * BATCH

    @property
    def tokens(self) -> int:
        return self.windows * WINDOW


class _TokensCase(Case):
    def __init__(self, params: TokensParams, device: Device, seed: int, path: Path, lane: Lane) -> None:
        self.work = _work(params)
        self.resets = params.cache == "cold"
        self._params = params
        self._device = device
        self._seed = seed
        self._path = path
        self.lane = lane
        self._resident_before = 0.0  # the worst of all resets
        self._read_from_device: list[int] = []  # bytes, epoch after epoch
        self._device_bytes_before: int | None = None
        if self.resets:
            self._evict()
        else:
            self._warm()

    def launch(self) -> None:
        name = "first_batch"
        for _ in self.lane.batches():
            self._device.mark(name)
            name = "batch"

    def reset(self) -> None:
        self._count_device_bytes()
        self._evict()
        self._device_bytes_before = self._device_bytes()

    def _evict(self) -> None:
        _page_cache.evict(self._path)
        resident = _page_cache.resident_fraction(self._path)
        if resident >= _COLD_AT_MOST:
            raise Unsupported(
                f"{resident:.0%} of {self._path} is still in the page cache after POSIX_FADV_DONTNEED, by mincore: "
                "this file system cannot be read cold as an ordinary user. Choose another with --out"
            )
        self._resident_before = max(self._resident_before, resident)

    def _warm(self) -> None:
        _page_cache.fill(self._path)
        resident = _page_cache.resident_fraction(self._path)
        if resident < _WARM_AT_LEAST:
            raise Unsupported(
                f"only {resident:.0%} of {self._path} stays in the page cache, by mincore: "
                "there is too little free memory to read it warm"
            )

    def _device_bytes(self) -> int | None:
        """None where worker processes read, whose counters are not this process's."""
        return None if self._params.workers else _page_cache.device_bytes_read()

    def _count_device_bytes(self) -> None:
        after = self._device_bytes()
        if after is not None and self._device_bytes_before is not None:
            self._read_from_device.append(after - self._device_bytes_before)
            self._device_bytes_before = None

    def check(self) -> Check:
        """Every token of one epoch, against windows made from the seed: the error is the number of wrong ones."""
        import numpy as np
        import torch

        if self.resets:
            self.reset()
        order = epoch_order(self._seed, self._params.windows)
        missed = self._params.windows - len(np.unique(order))
        file_WT = np.concatenate([token_block(self._seed, block) for block in range(self._params.batches)])
        reference_SBT = (
            torch.from_numpy(file_WT[order].astype(np.int32)).view(-1, BATCH, WINDOW).to(self._device.torch_device)
        )
        right = torch.zeros((), dtype=torch.int64, device=self._device.torch_device)
        self.lane.poison()
        self._device.synchronize()
        if self._device.info.kind == "cuda":
            # Pairs of inversions leave the reference as it is and the GPU behind the host, so that a buffer
            # filled again before it was copied does show.
            for _ in range(2 * _HOLDS):
                reference_SBT.bitwise_not_()
        # The launch's own loop, but for a comparison queued where it makes a mark.
        batches = 0
        for tokens_BT in self.lane.batches():
            right += (tokens_BT == reference_SBT[batches]).sum()
            batches += 1
        self._device.synchronize()
        wrong = self._params.tokens - int(right.item())
        return Check(
            error=float(wrong + missed * WINDOW),
            tolerance=0.0,
            detail=f"{wrong} of {self._params.tokens} tokens wrong in {batches} batches, {missed} windows missed",
        )

    def metrics(self, measurement: Measurement) -> list[Metric]:
        first_ns, waits_ns = _waits_ns(measurement)
        bytes_per_s = self._params.tokens * TOKEN_BYTES / (statistics.median(measurement.elapsed_ns) * 1e-9)
        metrics = [Metric("bytes_per_s", bytes_per_s, "B/s", "higher")]
        if first_ns:
            metrics.append(Metric("time_to_first_batch", statistics.median(first_ns) * 1e-9, "s", "lower"))
        if waits_ns:
            metrics.append(Metric("wait_p99", _p99(waits_ns) * 1e-9, "s", "lower"))
        return metrics + (self._cold_evidence() if self.resets else self._warm_evidence())

    def _warm_evidence(self) -> list[Metric]:
        return [Metric("resident_fraction", _page_cache.resident_fraction(self._path), "1", "higher")]

    def _cold_evidence(self) -> list[Metric]:
        evidence = [Metric("resident_fraction_before", self._resident_before, "1", "lower")]
        self._count_device_bytes()
        if self._read_from_device:
            fraction = statistics.median(self._read_from_device) / (self._params.tokens * TOKEN_BYTES)
            evidence.append(Metric("device_read_fraction", fraction, "1", "higher"))
        read_ahead_kb = _page_cache.read_ahead_kb(self._path)
        if read_ahead_kb is not None:
            evidence.append(Metric("read_ahead_kb", read_ahead_kb, "KiB"))
        return evidence

    def close(self) -> None:
        self.lane.close()


def _work(params: TokensParams) -> Work:
    """Bytes that have to come from the host's memory: the tokens, once, out of the page cache.

    The batches go to buffers that are used again and stay in the CPU's caches: counting those would flatter.
    """
    return Work(unit="token/s", bytes_moved=params.tokens * TOKEN_BYTES, items=params.tokens, item_unit="token")


def _waits_ns(measurement: Measurement) -> tuple[list[int], list[int]]:
    """Time to each sample's first batch, and from each other batch's predecessor to it."""
    first_ns, waits_ns = [], []
    for index, mark in enumerate(measurement.marks):
        if index % measurement.marks_per_sample == 0:
            first_ns.append(mark.ns)
        else:
            waits_ns.append(mark.ns - measurement.marks[index - 1].ns)
    return first_ns, waits_ns


def _p99(values: Sequence[int]) -> int:
    """The 99th percentile by nearest rank."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


class _TokensKernel(Kernel[TokensParams]):
    name = "dataload/tokens"
    version = 1
    summary = "shuffled windows of a token file as int64 batches on the device"
    about = About(
        stands_for=(
            "Feeding the training of a language model: shuffled windows of 2048 tokens and one, 32 to a batch, out of "
            "one file of raw uint16 tokens as nanoGPT keeps it, as int64 on the device that trains."
        ),
        parameters={
            "cache": (
                "warm reads out of the page cache, which is proved to hold the file; cold reads the disk: the file is "
                "evicted, and proved to be, before every launch"
            ),
            "backend": (
                "how a batch is read: mmap maps the file anew in each epoch and gathers a batch in one call, pread "
                "makes a system call for each window, torch puts a Dataset behind `torch.utils.data.DataLoader`"
            ),
            "workers": "processes of the DataLoader; 0 loads in the process that asks",
            "batches": "in the file and in an epoch; 512 make 64 MiB",
        },
        work=(
            "A launch is an epoch: each of the file's windows once, in one seeded order, never cut off by time. Items "
            "are its batches × 32 × 2049 tokens. Bytes are 2 for each token, read once from the host's memory or the "
            "disk; the int64 batches go to buffers that are used again and stay in the CPU's caches, so they are not "
            "counted. There are no FLOPs."
        ),
        check=(
            "Every token of an epoch, on the device, against windows made again from the seed (Philox4x64, whose "
            "stream NumPy keeps for ever: NEP 19). The error is the number of tokens that are wrong or missing, and "
            "none may be."
        ),
        pitfalls=(
            "Warm says nothing of the disk. Cold empties the kernel's page cache only: the cache of a hypervisor or of "
            "a disk array stays and flatters; the metrics `resident_fraction_before` and `device_read_fraction` say "
            "what was in memory before and what came from the device. What is measured is the disk below `--out`; in "
            "memory (tmpfs), or where the kernel does not evict, cold is unsupported. The tokens are random, and not "
            "compressed."
        ),
    )
    params_type = TokensParams
    catalogue = (
        "dataload/tokens/warm",
        "dataload/tokens/cold",
        "dataload/tokens/warm@backend=torch",
        "dataload/tokens/warm@backend=torch,workers=2",
    )

    def prepare(self, params: TokensParams, device: Device, seed: int) -> Case:
        """Make the file in ``device.scratch``, or find it there, and open a lane to it.

        Raises:
            Unsupported: the file cannot be made warm or cold here.
            OSError: it cannot be written.
        """
        cold = params.cache == "cold"
        if cold:
            _page_cache.require_disk(device.scratch)
        # Devices loaded together must not warm each other's file.
        label = device.info.label.replace(":", "-")
        path = device.scratch / f"tokens-{label}-seed{seed}-{params.batches}.u16"
        ensure_file(path, params.batches, seed)
        order_SB = epoch_order(seed, params.windows).reshape(params.batches, BATCH)
        lane: Lane
        if params.backend == "torch":
            lane = DataLoaderLane(path, order_SB, device, cold=cold, workers=params.workers)
        else:
            lane = StagedLane(path, order_SB, device, cold=cold, mapped=params.backend == "mmap")
        try:
            return _TokensCase(params, device, seed, path, lane)
        except BaseException:
            lane.close()
            raise

    def roofs(self, params: TokensParams, kind: DeviceKind) -> Sequence[str]:
        return ("roof/memory/read@where=host",) if kind == "cuda" else ("roof/memory/read",)

    def work(self, params: TokensParams) -> Work:
        return _work(params)

    def memory_bytes(self, params: TokensParams) -> int:
        """Those of the check, which has the whole file as uint16, the same shuffled, and that as int32."""
        return params.tokens * (TOKEN_BYTES + TOKEN_BYTES + 4)


KERNEL = _TokensKernel()
