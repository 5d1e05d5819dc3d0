"""A worker as a process of this machine: started, listened to, and ended with all its children."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import child
from bench.errors import CannotStart, VnbenchError
from bench.files import writing
from bench.types import Job, Status

Event = dict[str, Any]

# What a worker may take to start, and to finish the item at hand when the budget is spent.
_START_S = 120.0
_GRACE_S = 20.0
# What its libraries may take to shut down after its last word.
_EXIT_S = 20.0


_MODULES = dict.fromkeys(("measure", "search", "probe", "calibrate"), "bench.worker") | {"soak": "bench.soak_worker"}


@dataclasses.dataclass
class Outcome:
    """How one worker ended."""

    job: Job
    begun: int = 0  # items, from the first; 0: it died before any
    finished: int = 0  # items, from the first
    events: list[Event] = dataclasses.field(default_factory=list)
    death: tuple[Status, str] | None = None  # what befell it, and the item that was begun and not finished
    fatal: Event | None = None  # why the worker gave up
    begun_ns: int = 0  # when the last item began, on the monotonic clock; 0 where none did

    def raise_fatal(self) -> None:
        """Raises VnbenchError with the worker's own words and exit code, where it gave up."""
        if self.fatal is not None:
            error = VnbenchError(self.fatal["what"], self.fatal["remedy"])
            error.exit_code = self.fatal["code"]
            raise error

    @property
    def lost(self) -> int:
        """The end of the items that died with it: the one in hand, if any, or all where it had not even begun."""
        return self.begun or len(self.job.items)

    @property
    def rest(self) -> list[Job]:
        """The job for what it never came to, if there is any."""
        items = self.job.items[self.lost :]
        return [dataclasses.replace(self.job, items=items, sequence=self.job.sequence + self.lost)] if items else []


@dataclasses.dataclass(frozen=True)
class Place:
    """What a worker is started with, where that is not this process's own interpreter and environment."""

    command: Sequence[str]
    variables: Mapping[str, str]
    folder: str | None  # its working directory; None: this process's


@contextlib.contextmanager
def _closing(worker_fd: int, on_error: int) -> Iterator[None]:
    """The worker has its own copy of its end of the pipe; where it could not be started, nobody needs either end.

    Raises:
        CannotStart: the interpreter or its folder is gone.
    """
    try:
        yield
    except OSError as error:
        os.close(on_error)
        raise CannotStart(f"a worker cannot be started: {error}", "Is its interpreter still there?") from error
    finally:
        os.close(worker_fd)


class WorkerProcess:
    """One worker, and what has been heard of it."""

    def __init__(self, job: Job, lock_fd: int, group_size: int, place: Place | None = None) -> None:
        self.job = job
        self.outcome = Outcome(job)
        self.item = 0
        self.ready = False
        self.ended = False
        self.late: str | None = None
        self._due_s = time.monotonic() + _START_S
        self._limit = f"no start within {_START_S:g} s"
        name = f"{job.task}-{job.replicate}-{job.device.kind}{job.device.index}-{job.sequence}"
        name += f"-{job.arm.name}" if job.arm else ""
        logs = Path(job.folder) / "logs"
        self.log = logs / f"{name}.log"
        self._log_begins = 0  # where the item at hand began to write
        job_file = logs / f"{name}.json"
        with writing(job_file):
            job_file.write_text(json.dumps(dataclasses.asdict(job)))
            self.log.touch()
        self.events_fd, worker_fd = os.pipe()
        os.set_blocking(self.events_fd, False)
        self._buffer = b""
        arguments = str(job_file), str(worker_fd)
        variables = place.variables if place else child.environment()
        with self.log.open("wb") as log, _closing(worker_fd, on_error=self.events_fd):
            self.process = subprocess.Popen(
                [*place.command, *arguments] if place else child.command(_MODULES[job.task], *arguments),
                # Threads are shared out, or the processes would fight over the cores.
                env={**variables, **thread_variables(group_size, variables)},
                cwd=place.folder if place else None,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(worker_fd, lock_fd),
                start_new_session=True,  # Ctrl-C is the parent's to handle; and children die with their worker
            )

    def receive(self) -> list[Event]:
        """Events that have come; sets ``ended`` when there will be no more."""
        # Asked first, so that its last events are read. A process it left behind may still hold the pipe open.
        at_end = self.process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.events_fd, 1 << 16):
                self._buffer += chunk
            at_end = True
        *lines, self._buffer = self._buffer.split(b"\n")
        events = [json.loads(line) for line in lines]
        for event in events:
            self._note(event)
        if at_end:
            self._end()
        return events

    def go(self, words: str = "go") -> None:
        self.ready = False
        self._restart_watch()
        with contextlib.suppress(BrokenPipeError):  # it has died; its end of the events pipe says so
            assert self.process.stdin is not None
            self.process.stdin.write(f"{words}\n".encode())
            self.process.stdin.flush()

    def kill_if_late(self) -> None:
        if not self.ready and time.monotonic() > self._due_s and self.late is None:
            self.late = self._limit
            self.kill()

    def kill(self) -> None:
        """End the worker and its children, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # in the driver's hands, it may never come back
            self.process.wait(_EXIT_S)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def _note(self, event: Event) -> None:
        self.outcome.events.append(event)
        match event["event"]:
            case "begin":
                self.outcome.begun = event["item"] + 1
                self.outcome.begun_ns = time.monotonic_ns()
                self.item = event["item"]
                self._log_begins = event["log_bytes"]
                self._restart_watch()
            case "ready":
                self.ready = True
            case "done":
                self.outcome.finished = event["item"] + 1
                self.item = event["item"] + 1
                self._restart_watch()
            case "fatal":
                self.outcome.fatal = event

    def _restart_watch(self) -> None:
        now_s = time.monotonic()
        self._due_s = now_s + self.job.plan.timeout_s
        self._limit = f"no answer within {self.job.plan.timeout_s:g} s"
        if self.job.deadline_s is not None:
            latest_s = max(now_s, self.job.deadline_s) + _GRACE_S
            if latest_s < self._due_s:
                self._due_s, self._limit = latest_s, f"no answer {_GRACE_S:g} s after the end of the budget"

    def _end(self) -> None:
        self.ended = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_S)
        self.kill()
        code = self.process.returncode
        if self.outcome.fatal or (self.outcome.finished == len(self.job.items) and code == 0):
            return
        if self.late is not None:
            self.outcome.death = ("timeout", self.late)
        else:
            self.outcome.death = ("crashed", f"{_how_it_ended(code)}{self._last_words()}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            written = self.log.read_bytes()[self._log_begins :]
            lines = written.decode(errors="replace").strip().splitlines()
            if lines:
                return f": {lines[-1][:300]}"
        return ""


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "the worker cannot be killed: it waits inside the kernel"
    if code >= 0:
        return f"the worker ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (the kernel does this when memory runs out)" if -code == signal.SIGKILL else ""
    return f"the worker was killed by {name}{hint}"


def thread_variables(group_size: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Thread counts for the libraries, so that NumPy's pool and torch's agree; the user's own setting wins."""
    from bench.device.cpu import usable_cores

    threads = str(max(1, usable_cores() // group_size))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {name: variables.get(name, threads) for name in names}
