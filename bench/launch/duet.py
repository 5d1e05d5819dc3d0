"""One A/B session: two fresh workers that take turns, burst by burst, so that what the machine does befalls both."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable, Iterator, Sequence
from random import Random

from bench.launch.process import Outcome, Place, WorkerProcess
from bench.types import Job

_POLL_S = 0.5


def play(
    jobs: Sequence[Job],
    places: Sequence[Place],
    lock_fd: int,
    lot: Random,
    on_poll: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Start both arms, let them prepare side by side, then warm up and measure in turns, and wait for both.

    Where one fails or dies, the other is ended: alone it says nothing.

    Args:
        lot: draws who goes first in each pair, for who follows may find another machine.
        on_poll: called about twice a second; what it raises ends the workers.
    """
    workers: list[WorkerProcess] = []
    try:
        for job, place in lot.sample(list(zip(jobs, places, strict=True)), len(jobs)):
            workers.append(WorkerProcess(job, lock_fd, 1, place))
        workers.sort(key=lambda worker: jobs.index(worker.job))
        with _listening(workers) as hear:
            if _take_turns(workers, lot, hear, on_poll):
                for worker in workers:
                    worker.go()  # both check their answers again
                _wait(workers, lambda: all(worker.ended for worker in workers), hear, on_poll)
        return [worker.outcome for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            os.close(worker.events_fd)


def _take_turns(
    workers: Sequence[WorkerProcess], lot: Random, hear: Callable[[], None], on_poll: Callable[[], None]
) -> bool:
    """Let both warm up, then measure their pairs of bursts. False as soon as one of them is over."""

    def are_ready() -> bool:
        _wait(workers, lambda: any(map(_is_over, workers)) or all(each.ready for each in workers), hear, on_poll)
        return not any(map(_is_over, workers))

    for turn in range(1 + workers[0].job.plan.duet.pairs):
        for worker in lot.sample(workers, len(workers)):
            if not are_ready():
                return False
            worker.go(_common_size(workers) if turn else "warm up")
    return are_ready()


def _common_size(workers: Sequence[WorkerProcess]) -> str:
    """The samples and launches of a burst for both arms: the fewer samples, the more launches that either asked for."""
    asked = [event for worker in workers for event in worker.outcome.events if event["event"] == "sized"]
    return f"{min(event['samples'] for event in asked)} {max(event['launches'] for event in asked)}"


def _is_over(worker: WorkerProcess) -> bool:
    """It failed or died; it may have been ready before."""
    return worker.outcome.finished > 0 or worker.ended


@contextlib.contextmanager
def _listening(workers: Sequence[WorkerProcess]) -> Iterator[Callable[[], None]]:
    """A function that waits for the next words of any of the workers, and takes them in."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.events_fd, selectors.EVENT_READ, worker)

        def hear() -> None:
            selector.select(_POLL_S)
            for worker in workers:
                if not worker.ended:
                    worker.receive()
                    if worker.ended:
                        selector.unregister(worker.events_fd)

        yield hear


def _wait(
    workers: Sequence[WorkerProcess],
    condition: Callable[[], bool],
    hear: Callable[[], None],
    on_poll: Callable[[], None],
) -> None:
    while not condition():
        on_poll()
        hear()
        for worker in workers:
            if not worker.ended:
                worker.kill_if_late()
