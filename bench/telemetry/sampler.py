"""The process that reads the devices' state beside a run, outside the interpreter lock of those who measure.

It appends each reading as a JSON line to a file of the run's folder, so that a killed run keeps what it had, and ends
with the run: when the pipe that is its stdin closes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.telemetry.reading import Reading, Source
from bench.telemetry.sources import Sources
from bench.types import DeviceInfo


def main(configuration: str) -> None:
    """Read until stdin closes.

    Args:
        configuration: JSON: ``devices``, ``hz``, ``run_pid``, ``clock_offset_ns`` and the ``target`` file.
    """
    # Sent to a whole job, it reaches this process too; the run it belongs to will end it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    given: Mapping[str, Any] = json.loads(configuration)
    offset_ns = given["clock_offset_ns"]
    devices = [DeviceInfo(**device) for device in given["devices"]]
    sources = Sources(devices, given["run_pid"], lambda: time.monotonic_ns() + offset_ns)
    target = Path(given["target"])
    try:
        with target.open("ab", buffering=0) as file:
            sample(sources, file, 1.0 / given["hz"])
    except OSError as error:
        sys.exit(f"{target}: {error.strerror}")
    finally:
        sources.close()


def sample(source: Source, target: io.RawIOBase, period_s: float, stdin_fd: int = 0) -> None:
    """Read at fixed moments until ``stdin_fd`` closes; a moment that was missed is left out, not made up for."""
    due_s = time.monotonic()
    spent_ns = time.process_time_ns()
    is_last = False
    while not is_last:
        # The last one comes after the last measurement: a window needs a reading on either side.
        is_last = _closes_within(stdin_fd, due_s - time.monotonic())
        readings = source.read()
        # The whole cost, that of writing the last ones included, shared among the devices.
        now_ns = time.process_time_ns()
        cost_ns, spent_ns = (now_ns - spent_ns) // max(1, len(readings)), now_ns
        target.write(b"".join(_line(dataclasses.replace(one, cpu_ns=cost_ns)) for one in readings))
        due_s += period_s
        late_s = time.monotonic() - due_s
        if late_s > 0:
            due_s += period_s * (late_s // period_s + 1)


def read_back(path: Path) -> list[Reading]:
    """The readings in a file that a sampler has written, or was writing when it was killed."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(Reading.from_json(json.loads(line)))
        except (ValueError, TypeError):
            continue  # the last line, half written
    return found


def _line(reading: Reading) -> bytes:
    return json.dumps(reading.to_json(), separators=(",", ":")).encode() + b"\n"


def _closes_within(stdin_fd: int, timeout_s: float) -> bool:
    readable, _, _ = select.select([stdin_fd], [], [], max(0.0, timeout_s))
    return bool(readable) and not os.read(stdin_fd, 4096)


if __name__ == "__main__":
    main(sys.argv[1])
