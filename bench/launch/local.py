"""Workers that are loaded together: one per device, started together, watched, and never left behind."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Sequence

from bench.launch.process import Event, Outcome, WorkerProcess
from bench.types import Job

_POLL_S = 0.5


def run_group(
    jobs: Sequence[Job],
    lock_fd: int,
    on_event: Callable[[Job, Event], None] = lambda job, event: None,
    on_poll: Callable[[], None] = lambda: None,
    again: Callable[[Outcome], Job | None] = lambda outcome: None,
) -> list[Outcome]:
    """Start a worker per job, let them begin each item together, and wait for all.

    A worker that exceeds the time of an item is killed; so are all of them if this function is left by an exception.

    Args:
        lock_fd: the lock of the run's folder, which the workers share.
        on_poll: called about twice a second; what it raises ends the workers.
        again: asked when a worker has ended; a worker for the job that it gives is started beside the others.
    """
    workers: list[WorkerProcess] = []
    try:
        for job in jobs:
            on_poll()
            workers.append(WorkerProcess(job, lock_fd, len(jobs)))
        _attend(workers, on_event, on_poll, lambda outcome: _started(again(outcome), lock_fd, len(jobs)))
        return [worker.outcome for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            os.close(worker.events_fd)


def _started(job: Job | None, lock_fd: int, group_size: int) -> list[WorkerProcess]:
    return [] if job is None else [WorkerProcess(job, lock_fd, group_size)]


def _attend(
    workers: list[WorkerProcess],
    on_event: Callable[[Job, Event], None],
    on_poll: Callable[[], None],
    successors: Callable[[Outcome], list[WorkerProcess]],
) -> None:
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.events_fd, selectors.EVENT_READ)
        alive = list(workers)
        while alive:
            on_poll()
            selector.select(_POLL_S)
            for worker in alive:
                for event in worker.receive():
                    on_event(worker.job, event)
                if worker.ended:
                    selector.unregister(worker.events_fd)
            ended = [worker for worker in alive if worker.ended]
            alive = [worker for worker in alive if not worker.ended]
            for worker in (one for dead in ended for one in successors(dead.outcome)):
                selector.register(worker.events_fd, selectors.EVENT_READ)
                workers.append(worker)
                alive.append(worker)
            _release_together(alive)
            for worker in alive:
                worker.kill_if_late()
    on_poll()  # what ends this process may have ended the last worker first


def _release_together(alive: Sequence[WorkerProcess]) -> None:
    """The barrier: an item begins when every living worker is ready for it or already past it."""
    waiting = [worker for worker in alive if worker.ready]
    if not waiting:
        return
    item = min(worker.item for worker in waiting)
    if all(worker.ready or worker.item > item for worker in alive):
        for worker in waiting:
            if worker.item == item:
                worker.go()
