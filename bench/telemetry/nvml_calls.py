"""The boundary to NVML: the library opened, a device found, and one way to ask about it that answers or is None."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Sequence
from typing import Any

from bench.types import DeviceInfo


class Code(enum.IntEnum):
    """What an NVML call may return: ``nvmlReturn_t`` of nvml.h."""

    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    IRQ_ISSUE = 11
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    VGPU_ECC_NOT_SUPPORTED = 22
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    UNKNOWN = 999


# What this device, driver or user does not have it will not have in a minute: not asked for again.
_LASTING = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_SUPPORTED,
        Code.NO_PERMISSION,
        Code.NOT_FOUND,
        Code.FUNCTION_NOT_FOUND,
        Code.VGPU_ECC_NOT_SUPPORTED,
        Code.ARGUMENT_VERSION_MISMATCH,
        Code.DEPRECATED,
    }
)

# The device itself is in trouble; asking it for more can only take time. UNKNOWN is not among them: some drivers
# answer so to one odd call of a healthy device.
GONE = frozenset(
    {
        Code.UNINITIALIZED,
        Code.DRIVER_NOT_LOADED,
        Code.TIMEOUT,
        Code.IRQ_ISSUE,
        Code.GPU_IS_LOST,
        Code.RESET_REQUIRED,
        Code.OPERATING_SYSTEM,
    }
)

# The member of ``nvmlValue_t`` for each ``nvmlValueType_t``.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class DeviceGone(Exception):
    """The device does not answer any more; the text is NVML's."""


class DeviceSilent(Exception):
    """The device is there, and NVML tells this user nothing about it; the text is NVML's."""


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """NVML, initialised until the block ends.

    Raises:
        pynvml.NVMLError: it cannot be.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


class Gpu:
    """One device of an opened NVML.

    ``handle`` is the device that the workload runs on. Where that is a MIG slice, ``board`` is the GPU that it is cut
    from, which alone has clocks, temperatures and error counters; else the two are the same.
    """

    def __init__(self, info: DeviceInfo) -> None:
        """
        Raises:
            pynvml.NVMLError: NVML does not show this device, or cannot reach it.
        """
        import pynvml

        self._nvml = pynvml
        self._absent: set[Any] = set()
        self.refusal: str | None = None  # NVML's words at the latest call that it did not answer
        self.handle = _find(info)
        self.board = self.handle
        self.is_slice = bool(self.ask("nvmlDeviceIsMigDeviceHandle", handle=self.handle))
        if self.is_slice:
            self.board = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self.handle)

    def ask(self, name: str, *arguments: Any, handle: Any = None) -> Any:
        """What the function of that name answers about the board (or ``handle``), None where it does not.

        Raises:
            DeviceGone: the device cannot be asked any more.
        """
        key = (name, arguments)
        if key in self._absent:
            return None
        try:
            call = getattr(self._nvml, name)
            return call(self.board if handle is None else handle, *arguments)
        except AttributeError:  # a pynvml older than the function
            self._absent.add(key)
        except self._nvml.NVMLError as error:
            self._refused(key, error)
        return None

    def first(self, *names: str, arguments: Sequence[Any] = (), handle: Any = None) -> Any:
        """The answer of the first of these functions that gives one: the newest, then what it replaces."""
        answers = (self.ask(name, *arguments, handle=handle) for name in names)
        return next((answer for answer in answers if answer is not None), None)

    def fields(self, numbers: Sequence[int], value_type: int | None = None) -> dict[int, int | float]:
        """Those of the fields (``NVML_FI_*``) that the device has, by number, in one call.

        Args:
            value_type: only fields of this type (``NVML_VALUE_TYPE_*``).

        Raises:
            DeviceGone: the device cannot be asked any more.
        """
        wanted = tuple(number for number in numbers if number not in self._absent)
        values = {}
        for field in (wanted and self.ask("nvmlDeviceGetFieldValues", wanted)) or ():
            code, kind = field.nvmlReturn, field.valueType
            if code:
                self._refused(field.fieldId, self._nvml.NVMLError(code))
            elif kind < len(_MEMBERS) and value_type in (None, kind):
                values[field.fieldId] = getattr(field.value, _MEMBERS[kind])
        return values

    def _refused(self, key: Any, error: Any) -> None:
        self.refusal = words_of(error)
        if error.value in GONE:
            raise DeviceGone(self.refusal)
        if error.value in _LASTING:
            self._absent.add(key)


def words_of(error: Exception) -> str:
    """NVML's own words, without a full stop."""
    return str(error).rstrip(". ")


def _find(info: DeviceInfo) -> Any:
    import pynvml

    if info.uuid is None:
        return pynvml.nvmlDeviceGetHandleByIndex(info.index)
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(info.uuid)
    except pynvml.NVMLError as error:
        # CUDA tells a MIG slice's UUID without the prefix that says what it is, so it may be here as a GPU's.
        if error.value not in _LASTING or not info.uuid.startswith("GPU-"):
            raise
        return pynvml.nvmlDeviceGetHandleByUUID(info.uuid.replace("GPU-", "MIG-", 1))
