"""``Ranks``: the processes that perform a launch together, one per device; this one is rank 0 and leads.

While rank 0 is timed, the others repeat the same launch of their own accord. Its collectives keep all in step, so that
nothing but the work is in a sample: no message, no lock. They are stopped by a number: rank 0 says after how many
launches the run ends, further ahead than any of them can be, hears that all have taken note, and goes there with them.
No rank is ahead of rank 0 by more than the launch in which it waits and, on a GPU, by what it may have queued.

The others end with the process that started them: they see the end of a pipe. Where one of them fails, gloo's
collectives fail on rank 0 as well; a kernel of NCCL waits for ever, so that on GPUs this process ends soon after, and
its last line says why: the row of what it had in hand is ``crashed`` and has that line. How NCCL behaves there was not
tried; that the process ends was, with gloo.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import math
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.device.base import Device
from bench.errors import Unsupported, is_device_lost, is_out_of_memory
from bench.kernel import Case
from bench.types import Check
from kernels._rank import ANSWER_S, FAILURES, MakePart, Part, Place, serve

_LEAVE_S = 5.0
STUCK_S = 10.0  # what rank 0 has to find out by itself that another one has failed
STUCK_CODE = 71  # the exit code where it has not
_COMPLAIN_S = 2.0  # what all ranks together have to say why they failed, once one has


class RankLost(Exception):
    """A rank has died, or does not answer. What a rank itself has to say of a failure is one of ``FAILURES``."""


# What a failure of another rank is raised as; where several have failed, the first of these counts.
_KINDS = (MemoryError, Unsupported, RankLost, RuntimeError)


def _places(world: int, device: Device, store: str) -> list[Place]:
    """Rank 0 is on the device that is measured, the others are on those that it may be taken together with.

    Raises:
        Unsupported: these are not so many GPUs, or torch was built without its distributed part.
    """
    import torch

    if not torch.distributed.is_available():
        raise Unsupported("this torch is built without torch.distributed")
    threads = max(1, device.threads // world)
    if device.info.kind != "cuda":
        return [Place(rank, world, "cpu", threads, store) for rank in range(world)]
    if len(device.indices) < world:
        raise Unsupported(f"{world} ranks need a GPU each; there are {len(device.indices)} to take")
    return [Place(rank, world, f"cuda:{index}", threads, store) for rank, index in enumerate(device.indices[:world])]


class _Peer:
    """Another rank, as rank 0 knows it. What it says is heard at once, even while a launch waits for it."""

    def __init__(self, place: Place, on_failure: Callable[[Exception], None]) -> None:
        self.rank = place.rank
        self._on_failure = on_failure
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._connection, its_end = context.Pipe()
        self._process: BaseProcess = context.Process(target=serve, args=(its_end, place), daemon=True)
        self._process.start()
        its_end.close()
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()  # answers, and at the end its failure
        self._failure: Exception | None = None
        self._has_ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="vnbench-peer", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        kind = None
        try:
            while kind is None:
                kind, value = self._connection.recv()
                if kind is None:
                    self._said.put(value)
            self._failure = FAILURES[kind][1](f"rank {self.rank}: {value}")
        except (EOFError, OSError):
            self._failure = RankLost(self._how_it_ended())
        self._said.put(self._failure)
        self._has_ended.set()
        self._on_failure(self._failure)

    def tell(self, order: str, value: object = None) -> None:
        """Raises its failure, where it has failed or died."""
        try:
            self._connection.send((order, value))
        except OSError:
            raise self.complaint(_LEAVE_S) or RankLost(f"rank {self.rank} does not listen") from None

    def answer(self) -> Any:
        """What it says to an order. Raises its failure, as one of ``FAILURES``, or RankLost where it has no words."""
        try:
            said = self._said.get(timeout=ANSWER_S)
        except queue.Empty:
            raise RankLost(f"rank {self.rank} gave no answer within {ANSWER_S:g} s") from None
        if isinstance(said, Exception):
            raise said
        return said

    def complaint(self, wait_s: float) -> Exception | None:
        """Why it failed or how it died, if it tells within that time."""
        self._has_ended.wait(wait_s)
        return self._failure

    def kill(self) -> None:
        self._process.kill()

    def end(self, wait_s: float) -> None:
        self._listener.join(wait_s)
        self.kill()
        self._listener.join()
        self._process.join()
        self._connection.close()

    def _how_it_ended(self) -> str:
        self._process.join(_LEAVE_S)
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"rank {self.rank} {how}"


class Ranks:
    """The processes of one group, led by this one."""

    def __init__(self, world: int, device: Device) -> None:
        """Raises:
        Unsupported: see ``_places``.
        MemoryError, RuntimeError, RankLost: another rank failed.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="vnbench-", ignore_cleanup_errors=True)
        self.place, *others = _places(world, device, str(Path(self._folder.name, "ranks")))
        self._peers: list[_Peer] = []
        self.is_whole = True
        self._is_running = False
        self._is_idle = False  # no case is in hand
        self._has_closed = threading.Event()
        with self.held_together():
            self._peers += [_Peer(place, self._end_if_stuck) for place in others]
            self._answers()  # they have loaded what takes seconds
            self._tell("join")
            self.place.join()
            self._answers()

    @contextlib.contextmanager
    def held_together(self) -> Iterator[None]:
        """A failure in here ends the group, and is told in the words of the ranks that failed.

        Where this rank's own tells more than that another one is gone, it stays.
        """
        try:
            yield
        except Exception as error:
            self.is_whole = False
            complaints = [peer.complaint(_COMPLAIN_S / len(self._peers)) for peer in self._peers]
            self.close()
            told = list(filter(None, complaints))
            is_vague = isinstance(error, RuntimeError | RankLost) and not is_out_of_memory(error)
            if not told or not is_vague or is_device_lost(error):
                raise
            kind = next(kind for kind in _KINDS if any(isinstance(one, kind) for one in told))
            raise kind("; ".join(map(str, told))) from error

    def prepare(self, make: MakePart, params: object, seed: int) -> Part:
        """This rank's part, once all have theirs."""
        self._is_idle = False
        self._tell("prepare", (make, params, seed))
        part = make(params, self.place.torch_device, seed)
        self._answers()
        return part

    def check(self, part: Part) -> Check:
        """All parts are checked, in one launch of all; the worst of their checks.

        Without its output: nobody promises in which order devices add up what they sum together.
        """
        self._tell("check")
        checks: list[Check] = [part.check(), *self._answers()]
        worst = max(checks, key=lambda check: math.inf if math.isnan(check.error) else check.error)
        return dataclasses.replace(worst, output=None)

    def run(self, queued: int) -> None:
        """Let the others launch until they are told where it ends; on a GPU they queue so many, twice."""
        self._is_running = True
        self._tell("run", queued)

    def end_run(self, launches: int, queued: int) -> int:
        """After how many launches all of them end the run, this rank having begun so many."""
        last = launches + 1 + (2 * queued if self.place.is_gpu else 0)
        self._tell("end after", last)
        self._answers()
        self._is_running = False
        return last

    def drop(self) -> None:
        """Let the others forget their parts."""
        self._tell("drop")
        self._answers()
        self._is_idle = True

    def close(self) -> None:
        """End the others: in order, or by force where the group has failed or is in the middle of a run."""
        in_order = self._is_idle = self.is_whole and not self._is_running
        with contextlib.suppress(RuntimeError, RankLost):
            if in_order:
                self._tell("leave")
            self.place.leave(in_order)
        self._has_closed.set()
        for peer in self._peers:
            peer.end(_LEAVE_S if in_order else 0.0)
        self._peers.clear()
        self._folder.cleanup()
        self.is_whole = False

    def _end_if_stuck(self, failure: Exception) -> None:
        """Another rank has failed: end this process, unless it finds that out and ends the group."""
        if self._is_idle or not self.place.is_gpu or self._has_closed.wait(STUCK_S):
            return
        for peer in self._peers:
            peer.kill()
        os.write(2, f"\n{failure}\n".encode())
        os._exit(STUCK_CODE)

    def _tell(self, order: str, value: object = None) -> None:
        for peer in self._peers:
            peer.tell(order, value)

    def _answers(self) -> list[Any]:
        return [peer.answer() for peer in self._peers]


# Starting processes takes seconds, so the group stays for the next case of this process that wants the same.
_kept: dict[tuple[int, str], Ranks] = {}


def kept_ranks(world: int, device: Device) -> Ranks:
    """The group of so many ranks on that device and those behind it; another one is ended first."""
    key = world, device.torch_device
    if key not in _kept or not _kept[key].is_whole:
        end_ranks()
        _kept[key] = Ranks(world, device)
    return _kept[key]


@atexit.register
def end_ranks() -> None:
    """End the processes that were kept."""
    while _kept:
        _kept.popitem()[1].close()


class RankedCase(Case):
    """A case whose launches several processes perform together. Rank 0's is the one that is timed.

    The ranks have parts of one case at a time.
    """

    def __init__(self, make: MakePart, params: object, world: int, device: Device, seed: int, queued: int = 16) -> None:
        """
        Args:
            queued: launches that keep a GPU busy while Python enqueues as many; up to twice so many more end a run.
        """
        import torch

        self._queued = queued
        self._ranks = kept_ranks(world, device)
        self._run_launches: int | None = None  # of the run in progress, if any
        self._threads = torch.get_num_threads()
        torch.set_num_threads(self._ranks.place.threads)
        try:
            with self._ranks.held_together():
                self.part = self._ranks.prepare(make, params, seed)
        except BaseException:
            torch.set_num_threads(self._threads)
            raise

    def launch(self) -> None:
        if self._ranks.place.is_gpu:
            _refuse_capture()
        if self._run_launches is None:
            self._begin_run()
        try:
            self.part.launch()
        except RuntimeError as error:
            self._fail(error)
        self._run_launches += 1  # type: ignore[operator]

    def check(self) -> Check:
        with self._ranks.held_together():
            self._end_run()
            return self._ranks.check(self.part)

    def close(self) -> None:
        import torch

        torch.set_num_threads(self._threads)
        try:
            if self._ranks.is_whole:
                # What was measured was checked. A group that fails now has ended, and the next case makes another.
                with contextlib.suppress(*_KINDS), self._ranks.held_together():
                    self._end_run()
                    self._ranks.drop()
        finally:
            del self.part

    def _begin_run(self) -> None:
        with self._ranks.held_together():
            self._ranks.run(self._queued)
        self._run_launches = 0

    def _end_run(self) -> None:
        """Go with the others to the end of the run, so that all wait for orders."""
        if self._run_launches is not None:
            last = self._ranks.end_run(self._run_launches, self._queued)
            for _ in range(self._run_launches, last):
                self.part.launch()
            self._run_launches = None

    def _fail(self, error: RuntimeError) -> None:
        with self._ranks.held_together():
            raise error


def _refuse_capture() -> None:
    """A collective is captured by all of its ranks or by none (NCCL User Guide, "Using NCCL with CUDA Graphs")."""
    import torch

    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("the other ranks do not capture this launch")
