"""``roof/memory``: bytes per second to and from memory, by three of STREAM's patterns.

Bytes are counted, and arrays sized, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance in Current High
Performance Computers", IEEE TCCA Newsletter, December 1995; www.cs.virginia.edu/stream/ref.html): what the program
reads and writes, without the lines that a cache fetches in order to overwrite them.

On a GPU the patterns are operations of torch, or kernels of our own. On the host a team performs them, each thread on
a share of the rows; where there are too many threads for that, torch's own do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.errors import UsageError
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, Measurement, Metric, Work
from kernels import _cuda_kernels
from kernels._memory import array_bytes, host_words, is_on_host, require_room
from kernels._team import MOST_THREADS, Job, Team

if TYPE_CHECKING:
    import numpy as np
    import torch

_SUMMED = _cuda_kernels.ROW  # numbers of int64 that a read adds up into one result
# Of float32 in a row, 512 KiB: glibc's memcpy moves by ``rep movsb`` what is more than 2 KiB and, on AMD, less than an
# L2 (sysdeps/x86/dl-cacheinfo.h, glibc 2.36).
_COLUMNS = 1 << 17
_GAP = 16  # a line between the rows that the host copies to: without it numpy would copy them all as one block
_CHUNK = 1 << 22  # elements that a check holds in float64 at a time
_SCALAR = 3.0  # STREAM's own


@dataclass(frozen=True)
class RoofMemoryParams:
    pattern: str = axis(choices=("read", "copy", "triad"))
    where: str = option("device", choices=("device", "host"))
    backend: str = option("library", choices=("library", "cupy"), added_later=True)

    def __post_init__(self) -> None:
        if self.backend == "cupy" and self.where == "host":
            raise UsageError("CuPy's kernels run on a GPU, on its own memory", "Leave where=host or backend=cupy out")


class _Stream(Case):
    """Arrays of one size in one memory, as rows of float32 ``[R, C]``, and what a launch does with them."""

    arrays: int  # that a launch reads or writes, and STREAM counts
    _perform: Job

    def __init__(self, params: RoofMemoryParams, device: Device, size: int, seed: int) -> None:
        import torch

        self.work = Work(unit="B/s", bytes_moved=self.arrays * size)
        self._device = device
        self._size = size
        self._by_kernel = params.backend == "cupy"
        self._on_host = is_on_host(params.where, device)
        self._team = Team(device.threads) if self._on_host and device.threads <= MOST_THREADS else None
        self._generator = torch.Generator("cpu" if self._on_host else device.torch_device).manual_seed(seed)

    def _zeros(self, gap: int = 0) -> torch.Tensor:
        """An array, with a gap after each row; on the host, its pages touched by the threads that will stream them."""
        import torch

        rows, width = self._size // (4 * _COLUMNS), _COLUMNS + gap
        if self._on_host:
            words_RC = torch.from_numpy(host_words(4 * rows * width)).view(rows, -1)
        else:
            words_RC = torch.empty(rows, width // 2, dtype=torch.int64, device=self._generator.device)
        self._by_all(rows, lambda share: words_RC[share].zero_)()
        return words_RC.view(torch.float32)[:, :_COLUMNS]

    def _normals(self) -> torch.Tensor:
        return self._zeros().normal_(generator=self._generator)

    def _by_all(self, rows: int, job: Callable[[slice], Job]) -> Job:
        """The job on all rows: shared out to the team, or torch's in one piece."""
        return self._team.launch(rows, job) if self._team else job(slice(None))

    def launch(self) -> None:
        self._perform()

    def metrics(self, measurement: Measurement) -> list[Metric]:
        return [Metric("array_bytes", self._size, "B")]

    def close(self) -> None:
        if self._team:
            self._team.close()
        del self._perform


class Read(_Stream):
    """sum_R = rows of x_RC added up, in int64: exact, so that a byte left out or read twice shows. These rows have
    4096 numbers.

    The sums are one part in 4096 of what is read, and not counted.
    """

    arrays = 1

    def __init__(self, params: RoofMemoryParams, device: Device, size: int, seed: int) -> None:
        import torch

        super().__init__(params, device, size, seed)
        x_RC = self._x_RC = self._zeros().view(torch.int64).view(-1, _SUMMED)
        # 51 random bits: a row's sum cannot overflow.
        x_RC.random_(-(1 << 50), 1 << 50, generator=self._generator)
        sum_R = self._sum_R = torch.zeros(len(x_RC), dtype=torch.int64, device=x_RC.device)
        if self._by_kernel:
            addresses = sum_R.data_ptr(), x_RC.data_ptr()
            self._perform = functools.partial(_cuda_kernels.enqueue, "row_sums", *addresses, len(sum_R))
        else:
            self._perform = self._by_all(
                len(x_RC), lambda rows: functools.partial(torch.sum, x_RC[rows], dim=1, out=sum_R[rows])
            )

    def check(self) -> Check:
        import torch

        self._sum_R.fill_(torch.iinfo(torch.int64).min)
        self.launch()
        self._device.synchronize()
        wrong = int((self._sum_R.cpu().numpy() != self._exact).sum())
        return Check(wrong, 0, detail=f"wrong sums of {len(self._exact)}")

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        """The same sums by numpy, on the host."""
        import numpy as np

        chunks = self._x_RC.split(_CHUNK // _SUMMED)
        return np.concatenate([np.add.reduce(x_RC.cpu().numpy(), axis=1) for x_RC in chunks])

    def close(self) -> None:
        super().close()
        del self._x_RC, self._sum_R


class Copy(_Stream):
    """a = b."""

    arrays = 2

    def __init__(self, params: RoofMemoryParams, device: Device, size: int, seed: int) -> None:
        super().__init__(params, device, size, seed)
        b_RC = self._b_RC = self._normals()
        a_RC = self._a_RC = self._zeros(gap=_GAP if self._team else 0)
        if self._team:
            self._perform = self._team.launch(len(a_RC), lambda rows: _memcpy(a_RC[rows], b_RC[rows]))
        elif self._by_kernel:
            addresses = a_RC.data_ptr(), b_RC.data_ptr()
            self._perform = functools.partial(_cuda_kernels.enqueue, "copy", *addresses, size // 16)
        else:
            self._perform = functools.partial(a_RC.copy_, b_RC)

    def check(self) -> Check:
        self._a_RC.fill_(math.nan)
        self.launch()
        self._device.synchronize()
        rows = _CHUNK // _COLUMNS
        chunks = zip(self._a_RC.split(rows), self._b_RC.split(rows), strict=True)
        wrong = sum(int((a_RC != b_RC).sum()) for a_RC, b_RC in chunks)
        return Check(wrong, 0, detail=f"wrong elements of {self._a_RC.numel()}")

    def close(self) -> None:
        super().close()
        del self._a_RC, self._b_RC


def _memcpy(a_RC: torch.Tensor, b_RC: torch.Tensor) -> Job:
    """Has numpy copy a block, for which it calls the C library, row by row where rows are apart."""
    import numpy as np

    return functools.partial(np.copyto, a_RC.numpy(), b_RC.numpy())


class Triad(_Stream):
    """a = b + 3 c."""

    arrays = 3

    def __init__(self, params: RoofMemoryParams, device: Device, size: int, seed: int) -> None:
        import torch

        super().__init__(params, device, size, seed)
        b_RC = self._b_RC = self._normals()
        c_RC = self._c_RC = self._normals()
        a_RC = self._a_RC = self._zeros()
        if self._by_kernel:
            addresses = a_RC.data_ptr(), b_RC.data_ptr(), c_RC.data_ptr()
            self._perform = functools.partial(_cuda_kernels.enqueue, "triad", *addresses, size // 16)
        else:
            self._perform = self._by_all(
                len(a_RC),
                lambda rows: functools.partial(torch.add, b_RC[rows], c_RC[rows], alpha=_SCALAR, out=a_RC[rows]),
            )

    def check(self) -> Check:
        """All elements against float64, relative to the largest |b| + |3 c|.

        A product and a sum are rounded: (|b| + |3 c|)(2 u + u^2) at most (Higham, Accuracy and Stability of
        Numerical Algorithms, 2002, 3.1), u = 2^-24; 3 u covers it.
        """
        import torch

        self._a_RC.fill_(math.nan)
        self.launch()
        self._device.synchronize()
        errors, sizes = [], []
        chunks = (x_RC.split(_CHUNK // _COLUMNS) for x_RC in (self._a_RC, self._b_RC, self._c_RC))
        for a_RC, b_RC, c_RC in zip(*chunks, strict=True):
            scaled_RC = _SCALAR * c_RC.double()
            errors.append((a_RC - (b_RC + scaled_RC)).abs().max())
            sizes.append((b_RC.abs() + scaled_RC.abs()).max())
        error = torch.stack(errors).max() / torch.stack(sizes).max()  # torch's max keeps a NaN
        return Check(float(error), 3 * 2**-24)

    def close(self) -> None:
        super().close()
        del self._a_RC, self._b_RC, self._c_RC


_PATTERNS: dict[str, type[_Stream]] = {"read": Read, "copy": Copy, "triad": Triad}


class RoofMemory(Kernel[RoofMemoryParams]):
    name = "roof/memory"
    version = 2
    summary = "bytes per second to and from memory, as STREAM counts them"
    about = About(
        stands_for=(
            "The rate at which memory can be read and written in long streams: the limit of whatever touches more data "
            "than it computes, such as generating text for a single user."
        ),
        parameters={
            "pattern": "`read` adds up one array, `copy` is a = b, `triad` is a = b + 3 c",
            "where": "`device` is the memory of the device that is measured, `host` that of the CPUs",
            "backend": "`library` is torch, and on the host numpy for the copy; `cupy` is CUDA kernels of our own",
        },
        work=(
            "The bytes that the program reads and writes, as STREAM counts them (McCalpin, IEEE TCCA Newsletter, "
            "December 1995): 1, 2 and 3 arrays, without the lines that a cache fetches in order to overwrite them. "
            "Arrays are four times the last-level cache at least, so the size depends on the device."
        ),
        check=(
            "`read` adds random int64 and `copy` moves float32: every sum and every element must be equal. Every "
            "element of `triad` is held against float64, with a tolerance of 3 u of the largest |b| + |3 c|, u = 2⁻²⁴ "
            "(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1)."
        ),
        pitfalls=(
            "Where a CPU fetches a line in order to overwrite it, the memory moves more than is counted: copy and "
            "triad are rates of the program, not of the memory's pins. The C library may spare the host's copy that; "
            "nothing that numpy or torch have spares it the triad, so C with streaming stores is ahead there. With "
            f"more than {MOST_THREADS} threads torch's own stream the host's memory, and the copy is spared nothing, "
            "either. A thread streams what it touched first, but threads are not pinned: on a machine of several nodes "
            "the system may move one away from its memory. On a virtual machine the size of the cache may be "
            "another's, and the arrays very large. Two "
            "programs agree only if their arrays lie in pages of one size: those on the host ask for huge ones."
        ),
    )
    params_type = RoofMemoryParams
    catalogue: Sequence[str] = (
        "roof/memory/read",
        "roof/memory/copy",
        "roof/memory/triad",
        "roof/memory/read@where=host",
        "roof/memory/copy@where=host",
        "roof/memory/triad@where=host",
        "roof/memory/read@backend=cupy",
        "roof/memory/copy@backend=cupy",
        "roof/memory/triad@backend=cupy",
    )

    def prepare(self, params: RoofMemoryParams, device: Device, seed: int) -> Case:
        """Arrays of at least four times the last-level cache, their pages touched.

        Raises:
            Unsupported: they do not fit in the memory that is free; there is no GPU or no CuPy where it is asked for.
        """
        if params.backend == "cupy":
            _cuda_kernels.require(device)
        pattern = _PATTERNS[params.pattern]
        on_host = is_on_host(params.where, device)
        size = array_bytes(device, on_host)
        require_room(pattern.arrays, size, device, on_host)
        return pattern(params, device, size, seed)


KERNEL = RoofMemory()
