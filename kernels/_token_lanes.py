"""The lanes of ``dataload/tokens``: ways from the token file to batches on the device.

``mmap``, the fastest, maps the file anew in every epoch: an epoch over a data set finds its pages unmapped, so the
page faults are part of the work. It is also why a cold pass needs no process of its own: between epochs nothing is
mapped, and eviction works. ``pread`` makes one system call per window instead and takes twice the time of a warm
epoch; it is there for file systems that map badly, and its errors are ``OSError`` where a mapping's are SIGBUS.

Both ask the disk for a cold file's windows ahead of time, with read-ahead of the kernel's own switched off: what that
fetches around a window is of use later in a small file and wasted in a large data set.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.device.base import Device
from kernels._token_file import BATCH, WINDOW, WINDOW_BYTES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Order = npt.NDArray[np.int64]  # the numbers of an epoch's windows, batch after batch

_STAGES = 4  # pinned buffers: one is filled while the copies out of the others are under way
_AHEAD = 8  # batches asked of the disk before they are needed: 256 reads in flight keep an NVMe drive's queue full


class Lane(Protocol):
    """A way from the file to the device."""

    def batches(self) -> Iterator[torch.Tensor]:
        """One epoch: int64 ``[32, 2049]`` on the device, each good for work queued before the next is asked for."""

    def poison(self) -> None:
        """Fill every buffer with what no batch holds."""

    def close(self) -> None: ...


class StagedLane:
    """Windows into staging as uint16, one copy to the device, widened there.

    On a GPU the copy is asynchronous and moves a quarter of what int64 would be. On the CPU the staging buffer is
    widened where it is, and one will do: nothing is under way when it is filled again.
    """

    def __init__(self, path: Path, order_SB: Order, device: Device, *, cold: bool, mapped: bool) -> None:
        import torch

        on_gpu = device.info.kind == "cuda"
        shape = (BATCH, WINDOW)
        self._order_SB = torch.from_numpy(order_SB)
        self._offsets_SB: list[list[int]] = (order_SB * WINDOW_BYTES).tolist()
        self._mapped = mapped
        self._cold = cold
        # Bits are moved as int16: torch gathers and pins that everywhere, uint16 only in part.
        self.stages_BT = [
            torch.empty(shape, dtype=torch.int16, pin_memory=on_gpu) for _ in range(_STAGES if on_gpu else 1)
        ]
        self._rows = [[[memoryview(row).cast("B")] for row in stage_BT.numpy()] for stage_BT in self.stages_BT]
        self.copied = [torch.cuda.Event() for _ in self.stages_BT] if on_gpu else None
        self._landed_BT = torch.empty(shape, dtype=torch.int16, device=device.torch_device) if on_gpu else None
        self._tokens_BT = torch.empty(shape, dtype=torch.int64, device=device.torch_device)
        self._fd = _open(path, cold)

    def batches(self) -> Iterator[torch.Tensor]:
        import torch

        windows_WT = self._map() if self._mapped else None  # unmapped with the last reference, at the epoch's end
        if self._cold:
            for offsets_B in self._offsets_SB[:_AHEAD]:
                self._ask_for(offsets_B)
        for step, offsets_B in enumerate(self._offsets_SB):
            if self._cold and step + _AHEAD < len(self._offsets_SB):
                self._ask_for(self._offsets_SB[step + _AHEAD])
            stage = step % len(self.stages_BT)
            if self.copied:
                self.copied[stage].synchronize()  # the copy that still reads this buffer
            if windows_WT is None:
                _pread(self._fd, self._rows[stage], offsets_B)
            else:
                # One call of several threads for the whole batch.
                torch.index_select(windows_WT, 0, self._order_SB[step], out=self.stages_BT[stage])
            yield self._deliver(stage)

    def _map(self) -> torch.Tensor:
        """The file's windows as int16, ``[windows, 2049]``. Nothing is read before it is touched."""
        import torch

        mapping = mmap.mmap(self._fd, 0, access=mmap.ACCESS_COPY)  # torch wants a buffer that could be written
        if self._cold:
            mapping.madvise(mmap.MADV_RANDOM)
        return torch.frombuffer(mapping, dtype=torch.int16).view(-1, WINDOW)

    def _ask_for(self, offsets_B: Sequence[int]) -> None:
        """Have the kernel begin to read these windows. It returns before they are there."""
        for offset in offsets_B:
            os.posix_fadvise(self._fd, offset, WINDOW_BYTES, os.POSIX_FADV_WILLNEED)

    def _deliver(self, stage: int) -> torch.Tensor:
        import torch

        bits_BT = self.stages_BT[stage]
        if self._landed_BT is not None and self.copied:
            # Two steps, because one copy_ of both device and type would widen on the host first.
            self._landed_BT.copy_(bits_BT, non_blocking=True)
            self.copied[stage].record()
            bits_BT = self._landed_BT
        return self._tokens_BT.copy_(bits_BT.view(torch.uint16))

    def poison(self) -> None:
        for buffer_BT in (*self.stages_BT, self._landed_BT, self._tokens_BT):
            if buffer_BT is not None:
                buffer_BT.fill_(-1)  # as uint16 65,535: outside the vocabulary

    def close(self) -> None:
        os.close(self._fd)


class DataLoaderLane:
    """What most training loops do: a Dataset with ``__getitems__`` behind torch's DataLoader, its options as usual.

    Workers persist: they are started in the first epoch, which is a check, so that an epoch's first batch stands for
    a later epoch's and not for the start of Python processes.
    """

    def __init__(self, path: Path, order_SB: Order, device: Device, *, cold: bool, workers: int) -> None:
        from torch.utils.data import DataLoader

        self._device = device
        self._dataset = _WindowDataset(path, cold)
        self._loader: Any = DataLoader(
            self._dataset,
            batch_size=BATCH,
            sampler=order_SB.ravel().tolist(),
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.info.kind == "cuda",
        )

    def batches(self) -> Iterator[torch.Tensor]:
        for batch_BT in self._loader:
            yield batch_BT.to(self._device.torch_device, non_blocking=True)

    def poison(self) -> None:
        """Nothing to do: the DataLoader makes every batch anew."""

    def close(self) -> None:
        self._loader = None  # the last reference: its iterator ends the workers and waits for them
        self._dataset.close()


class _WindowDataset:
    """The file's windows by number, read with ``preadv``: a worker's lasting mapping would keep the pages cached."""

    def __init__(self, path: Path, cold: bool) -> None:
        self._path = path
        self._cold = cold
        self._fd: int | None = None  # each worker opens its own

    def __getitems__(self, indices: Sequence[int]) -> torch.Tensor:
        import numpy as np
        import torch

        if self._fd is None:
            self._fd = _open(self._path, self._cold)
        batch_BT = np.empty((len(indices), WINDOW), np.uint16)
        _pread(self._fd, [[row_T.data] for row_T in batch_BT], [window * WINDOW_BYTES for window in indices])
        return torch.from_numpy(batch_BT.astype(np.int64))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _as_it_is(batch_BT: torch.Tensor) -> torch.Tensor:
    return batch_BT


def _open(path: Path, cold: bool) -> int:
    fd = os.open(path, os.O_RDONLY)
    if cold:  # no read-ahead
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd


def _pread(fd: int, rows: Sequence[Sequence[memoryview]], offsets: Sequence[int]) -> None:
    """Read a window into each row."""
    if sum(map(os.preadv, repeat(fd), rows, offsets)) != len(offsets) * WINDOW_BYTES:
        raise OSError("the token file is shorter than it was when it was opened")
