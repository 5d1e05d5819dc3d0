"""``Team``: threads of Python that stream the host's memory side by side, each its own share of the rows.

Numpy and torch let the interpreter go while they work. Torch's own threads would do for its own operations, but they
wait for each other by spinning, which one busy neighbour turns into most of the time; and torch stores what it copies
as it stores everything. Numpy copies by the C library's ``memcpy``: that of glibc on x86 moves a block by an
instruction that need not fetch the lines it overwrites (``rep movsb``; Intel 64 and IA-32 Architectures Optimization
Reference Manual, "Enhanced REP MOVSB and STOSB Operation").
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], object]

# Python hands out work one thread at a time, some microseconds each: with more threads than this, the last would begin
# when the first are well on.
MOST_THREADS = 32


class Team:
    """So many threads. In each of them torch's operations have that thread alone.

    A share is always done by the same thread, so that who first touched a page is who streams it: Linux puts a
    page at the node of who does (Documentation/admin-guide/mm/numa_memory_policy.rst, "System Default Policy"). Threads
    are not pinned: whether one stays at its node is the system's choice.
    """

    def __init__(self, threads: int) -> None:
        import torch

        self.threads = threads
        before = torch.get_num_threads()

        def begin() -> None:
            torch.get_num_threads()  # else torch would give this thread the process's number later on
            torch.set_num_threads(1)

        # A queue for each: from one for all, as a ThreadPoolExecutor has it, any idle thread takes the next job.
        self._queues: list[SimpleQueue[Job | None]] = [SimpleQueue() for _ in range(threads)]
        self._ended: SimpleQueue[Exception | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in self._queues]
        for thread in self._threads:
            thread.start()
        self._run([begin] * threads)
        torch.set_num_threads(before)  # what a thread sets is the process's, too, for threads to come

    def launch(self, rows: int, job: Callable[[slice], Job]) -> Job:
        """What has all threads do their jobs, and waits for them.

        Args:
            job: makes a thread's job from the rows that are its share.
        """
        ends = [rows * i // self.threads for i in range(self.threads + 1)]
        jobs = [job(slice(begin, end)) for begin, end in itertools.pairwise(ends)]
        return lambda: self._run(jobs)

    def _run(self, jobs: list[Job]) -> None:
        for queue, job in zip(self._queues, jobs, strict=True):
            queue.put(job)
        ended = [self._ended.get() for _ in jobs]
        for error in filter(None, ended):
            raise error

    def _work(self, queue: SimpleQueue[Job | None]) -> None:
        while job := queue.get():
            try:
                job()
            except Exception as error:
                self._ended.put(error)
            else:
                self._ended.put(None)

    def close(self) -> None:
        for queue, thread in zip(self._queues, self._threads, strict=True):
            queue.put(None)
            thread.join()
