"""What the tests of NVML run in child processes; light, since many are started."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bench.telemetry import nvml
from bench.telemetry.nvml import NvmlSource
from bench.telemetry.nvml_facts import facts
from bench.types import DeviceInfo

VARIABLE = "VNBENCH_FAKE_NVML"  # tests.nvml.VARIABLE


def in_child(call: Callable[..., None], variables: dict[str, str], *arguments: str, namespaced: bool = False) -> Any:
    """What a function of this file prints as JSON in a process of its own; ``namespaced`` as in a container."""
    from tests import nvml as fake  # brings pytest, which a child has no need of

    code = (
        f"import sys; from {call.__module__} import {call.__name__} as call\n"
        f"from bench.telemetry import gpu_processes; gpu_processes._is_namespaced = lambda: {namespaced}\n"
        "call(*sys.argv[1:])"
    )
    return fake.in_child(code, variables, *arguments)


def one_of(uuid: str | None, index: int = 0, kind: str = "cuda") -> str:
    return json.dumps([{"kind": kind, "index": index, "name": None, "uuid": uuid}])


# ---------------------------------------------------------------- in the child, each printing JSON


def read_once(*scripts: str) -> None:
    """The devices of each script; one after the other, which needs NVML to be given back each time."""
    readings = []
    for script in scripts:
        os.environ[VARIABLE] = script
        source = NvmlSource(nvml.devices())
        readings.append([reading.to_json() for reading in source.read()])
        source.close()
    print(json.dumps(readings))


def read_devices(devices: str, times: str = "1", run_pid: str = "") -> None:
    source = NvmlSource([DeviceInfo(**device) for device in json.loads(devices)], int(run_pid) if run_pid else None)
    print(json.dumps([[reading.to_json() for reading in source.read()] for _ in range(int(times))]))
    source.close()


def read_across(second: str) -> None:
    """Once before that second of the script, which begins here, and twice after it."""
    devices = nvml.devices()
    began_s = time.monotonic()
    source = NvmlSource(devices)
    first = source.read()
    time.sleep(max(0.0, began_s + float(second) + 0.05 - time.monotonic()))
    print(json.dumps([[reading.to_json() for reading in each] for each in (first, source.read(), source.read())]))


def count_calls(counted: str, readings: str, step_ns: str) -> None:
    """How often a function of pynvml is called at each reading, on a clock that goes by steps; then the last."""
    import pynvml

    calls: collections.Counter[int] = collections.Counter()
    original, clock = getattr(pynvml, counted), SimpleNamespace(now_ns=0)

    def counting(*arguments: Any) -> Any:
        calls[clock.now_ns] += 1
        return original(*arguments)

    setattr(pynvml, counted, counting)
    source = NvmlSource(nvml.devices(), clock=lambda: clock.now_ns)
    calls.clear()
    for number in range(int(readings)):
        clock.now_ns = number * int(step_ns)
        last = source.read()
    print(json.dumps([[calls[number * int(step_ns)] for number in range(int(readings))], [r.to_json() for r in last]]))


def renumber(numbers: str, odd_type: str) -> None:
    """A driver whose throttle counters have other numbers; what this file's are to it has another type of value."""
    import pynvml

    original, theirs = pynvml.nvmlDeviceGetFieldValues, json.loads(numbers)
    ours = (269, 270, 271)
    real = dict(zip(theirs, ours, strict=True))

    def renumbered(handle: Any, wanted: Any) -> Any:
        values = original(handle, [real.get(number, number) for number in wanted])
        for value, number in zip(values, wanted, strict=True):
            value.fieldId = number
            if number in ours and number not in theirs:
                value.valueType = int(odd_type)
        return values

    pynvml.nvmlDeviceGetFieldValues = renumbered
    print(json.dumps([reading.to_json() for reading in NvmlSource(nvml.devices()).read()]))


def break_down() -> None:
    """A binding that fails as none should."""
    import pynvml

    source = NvmlSource(nvml.devices())

    def broken(*_: Any) -> None:
        raise ValueError("not a number")

    pynvml.nvmlDeviceGetClockInfo = broken
    print(json.dumps([reading.to_json() for reading in source.read()]))


def send_events(uuid: str) -> None:
    """Xids of several MIG instances, and an event that is no Xid."""
    import pynvml

    whole = 0xFFFFFFFF
    events = [(8, 13, 8), (8, 31, 9), (8, 79, whole), (1, 5, whole)]
    waiting = [SimpleNamespace(eventType=a, eventData=b, gpuInstanceId=c) for a, b, c in events]

    def wait(_: Any, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not waiting:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return waiting.pop(0)

    pynvml.nvmlEventSetWait = wait
    (reading,) = NvmlSource([DeviceInfo("cuda", 0, None, uuid)]).read()
    print(json.dumps(reading.xids))


def scripted_clock() -> None:
    ticks = iter(range(1000, 9000, 1000))
    source = NvmlSource(nvml.devices(), clock=lambda: next(ticks))
    print(json.dumps([source.read()[0].at_ns, next(ticks)]))


def use_and_return() -> None:
    """Whether NVML still works after each use, and how many event sets were made and freed."""
    import pynvml

    counts: collections.Counter[str] = collections.Counter()
    for name in ("nvmlEventSetCreate", "nvmlEventSetFree"):
        original = getattr(pynvml, name)

        def counting(*arguments: Any, name: str = name, original: Callable[..., Any] = original) -> Any:
            counts[name] += 1
            return original(*arguments)

        setattr(pynvml, name, counting)

    def use_source() -> None:
        source = NvmlSource(nvml.devices())
        source.read()
        source.close()
        source.close()
        assert source.read() == []

    still_open = []
    for use in (nvml.devices, nvml.obstacle, nvml.driver_version, use_source):
        use()
        try:
            still_open.append(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError_Uninitialized:
            still_open.append(None)
    print(json.dumps([still_open, counts]))


def look() -> None:
    """What there is, without a source."""
    found = [dataclasses.asdict(device) for device in nvml.devices()]
    obstacle = nvml.obstacle()
    words = obstacle and [obstacle.words, obstacle.remedy]
    print(json.dumps({"devices": found, "obstacle": words, "driver": nvml.driver_version()}))


def tell_facts(devices: str) -> None:
    (device,) = (DeviceInfo(**device) for device in json.loads(devices))
    print(json.dumps(facts(device)))
