"""The error tree, and the exit code that each branch stands for.

    VnbenchError                     1   a bug in vnbench, or an error nobody named
    ├── UsageError                   2   what was asked for cannot be understood
    │   ├── UnknownWorkload              no such workload or suite; names the nearest
    │   ├── BadSuite                     a suite file, with its line and key
    │   ├── ImpossibleDevice             a device that this machine does not have
    │   ├── UnreadableResult             a file that is missing, truncated or not ours
    │   └── ShadowedKernels              another package named ``kernels`` was imported
    ├── CannotStart                  3   a worker's interpreter or folder is gone
    ├── UnfitMachine                 4   the machine cannot be measured as asked
    │   └── UnusableGpu                  NVIDIA hardware is present and does not work
    ├── MissingDevice                5   an acceptance of a device that this machine does not have
    ├── BadSeal                      5   a bundle is not as somebody trusted sealed it
    ├── OutputNotWritable            7   the results folder cannot be written
    └── Interrupted             130/143  SIGINT or SIGTERM

A workload that failed or gave wrong answers is a row, and exit code 3; no error is raised for it.
``Unsupported`` is no error of a run: a kernel raises it where this device cannot do the work,
and it becomes a row with that status. Only the CLI turns an error into an exit.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

OK = 0
BUG = 1
USAGE = 2
FAILED = 3
UNFIT = 4
REGRESSED = 5
INCONCLUSIVE = 6
NOT_WRITABLE = 7

# Several outcomes at once: the one that the user has to deal with first decides.
_PRECEDENCE = (BUG, NOT_WRITABLE, REGRESSED, FAILED, UNFIT, INCONCLUSIVE)

# What libraries say in a plain RuntimeError.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


class VnbenchError(Exception):
    """An error a user reads: what happened, and what to do about it."""

    exit_code = BUG

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}. {remedy}" if remedy else what)

    def with_words(self, what: str, remedy: str) -> VnbenchError:
        """The same error, said in other words."""
        self.what, self.remedy = what, remedy
        self.args = (f"{what}. {remedy}",)
        return self


class UsageError(VnbenchError):
    exit_code = USAGE


class UnknownWorkload(UsageError):
    pass


class BadSuite(UsageError):
    pass


class ImpossibleDevice(UsageError):
    pass


class UnreadableResult(UsageError):
    pass


class ShadowedKernels(UsageError):
    pass


class CannotStart(VnbenchError):
    exit_code = FAILED


class UnfitMachine(VnbenchError):
    exit_code = UNFIT


class UnusableGpu(UnfitMachine):
    pass


class MissingDevice(VnbenchError):
    exit_code = REGRESSED


class BadSeal(VnbenchError):
    exit_code = REGRESSED


class OutputNotWritable(VnbenchError):
    exit_code = NOT_WRITABLE


class Interrupted(VnbenchError):
    """A signal ended the run; what was finished is kept."""

    def __init__(self, signum: int, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.exit_code = 128 + signum
        self.signal_name = signal.Signals(signum).name


class Unsupported(Exception):
    """This device or library cannot do the work; the text is the library's own where there is one."""


def is_device_lost(error: BaseException) -> bool:
    """Whether CUDA failed in a way that leaves this process's context unusable: torch's ``AcceleratorError``.

    By its name, so that asking imports nothing.
    """
    return any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on a GPU."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def worst(codes: Iterable[int]) -> int:
    """The exit code of several outcomes together: an interrupt first, then 1, 7, 5, 3, 4, 6."""
    seen = {code for code in codes if code != OK}
    interrupts = [code for code in seen if code > 128]
    if interrupts:
        return min(interrupts)
    return next((code for code in _PRECEDENCE if code in seen), min(seen, default=OK))
