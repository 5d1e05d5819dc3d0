"""The sampler as a process of this machine: started and ended with a run, never waited for by those who measure."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from pathlib import Path
from types import TracebackType

from bench import child
from bench.files import writing
from bench.types import Plan

# What it may take for its last reading when its stdin closes; a driver that hangs is not waited for.
_END_S = 5.0


class Sampler:
    """A context in which the state of a run's devices is read."""

    def __init__(self, plan: Plan, target: Path, log: Path, run_pid: int, clock_offset_ns: int) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        if not plan.telemetry_hz:
            return
        configuration = {
            "devices": [dataclasses.asdict(device) for device in plan.devices],
            "hz": plan.telemetry_hz,
            "run_pid": run_pid,
            "clock_offset_ns": clock_offset_ns,
            "target": str(target.resolve()),
        }
        with writing(log), log.open("wb") as output:
            self._process = subprocess.Popen(
                child.command("bench.telemetry.sampler", json.dumps(configuration)),
                env=child.environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the run's to handle
            )

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # in the driver's hands, it may never come back
                process.wait(_END_S)

    def obstacle(self) -> str | None:
        """Its last words, if it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"
