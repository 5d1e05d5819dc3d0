"""One rank of a launch that several processes perform together: where it stands, its part, and how it is led.

``kernels/_ranks.py`` tells of the whole.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import math
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from bench.device.base import graphs
from bench.errors import Unsupported, is_out_of_memory
from bench.types import Check

# What a failure may be -> how it is known, and what rank 0 raises for it; the first that one of the ranks has counts.
FAILURES: dict[str, tuple[Callable[[Exception], bool], type[Exception]]] = {
    "oom": (is_out_of_memory, MemoryError),
    "unsupported": (lambda error: isinstance(error, Unsupported), Unsupported),
    "failed": (lambda error: True, RuntimeError),
}

# What a rank may take for one answer, or for its share of one collective, before the others give it up.
ANSWER_S = 60.0


class Part(Protocol):
    """What one rank does. It is made in the rank's own process, as one of a process group of torch.distributed."""

    def launch(self) -> None:
        """Enqueue this rank's share of one launch."""

    def check(self) -> Check:
        """Poison what is received, launch, and hold it against what it should be."""


# From parameters, torch's name of the rank's device, and the seed. It travels to the other ranks by its name.
MakePart = Callable[[Any, str, int], Part]


@dataclass(frozen=True)
class Place:
    """Where one rank stands."""

    rank: int
    world: int
    torch_device: str
    threads: int  # its share of them
    store: str  # the file by which the ranks find each other

    @property
    def is_gpu(self) -> bool:
        return self.torch_device != "cpu"

    def join(self) -> None:
        """Make this process one of the group; returns when all are in it."""
        import torch
        import torch.distributed as dist

        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # not the network that the host's name may resolve to
        if self.is_gpu:
            # torch's watchdog would abort this process after the timeout, and with it the words of who has failed.
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
            torch.cuda.set_device(self.torch_device)
        dist.init_process_group(
            "nccl" if self.is_gpu else "gloo",
            store=dist.FileStore(self.store, self.world),
            rank=self.rank,
            world_size=self.world,
            timeout=dt.timedelta(seconds=ANSWER_S),
            device_id=torch.device(self.torch_device) if self.is_gpu else None,
        )

    def leave(self, is_whole: bool = True) -> None:
        """Put an end to what is under way, where one of the group has failed, and leave it."""
        import torch.distributed as dist

        if not dist.is_initialized():
            return
        if self.is_gpu and not is_whole:
            dist.distributed_c10d._abort_process_group()  # destroying it would wait for all of them
        else:
            dist.destroy_process_group()


@dataclass(frozen=True)
class RankDevice:
    """What a part may ask of its device where nothing is timed."""

    torch_device: str

    def mark(self, name: str) -> None:
        pass

    def synchronize(self) -> None:
        import torch

        if self.torch_device != "cpu":
            torch.cuda.synchronize()

    def captured(self, runs: Sequence[Callable[[], object]]) -> list[Callable[[], None]]:
        """Collectives are captured with the rest, for all ranks make their parts at once."""
        if self.torch_device == "cpu":
            raise Unsupported("CUDA graphs are a GPU's: a CPU has none")
        return graphs(runs)


def serve(connection: Connection, place: Place) -> None:
    """The life of a rank that rank 0 has started.

    Each answer is None and a value, or the kind of a failure, one of ``FAILURES``, and its words.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker ignores it
    last_word: tuple[str | None, Any] = None, None
    try:
        _Led(connection, place).serve()
    except Exception as error:
        traceback.print_exc()
        words = (str(error).strip().splitlines() or [""])[0]
        kind = next(kind for kind, (is_so, _) in FAILURES.items() if is_so(error))
        last_word = kind, words if kind == "unsupported" else f"{type(error).__name__}: {words}"
    connection.send(last_word)
    os._exit(0)  # an orderly end would wait for the others; that its sockets close is what tells them


class _Led:
    """A rank that is led."""

    def __init__(self, connection: Connection, place: Place) -> None:
        self._connection = connection
        self._place = place
        self._part: Part | None = None
        self._last = math.inf  # launches of the run in progress
        self._orders: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="vnbench-rank", daemon=True).start()

    def _listen(self) -> None:
        """Hear orders at once, even while a launch waits for the other ranks."""
        try:
            while True:
                order, value = self._connection.recv()
                if order == "end after":
                    self._last = value
                    self._connection.send((None, None))
                    continue
                if order == "run":
                    self._last = math.inf
                self._orders.put((order, value))
        except (EOFError, OSError):
            pass  # rank 0 is gone
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def serve(self) -> None:
        """Answer "start", that this process is ready, then order after order until "leave"."""
        import torch

        torch.set_num_threads(self._place.threads)
        gc.disable()  # as in the one that is timed, which would wait for it
        self._connection.send((None, None))
        while True:
            order, value = self._orders.get()
            if order == "run":
                self._run(value)
            elif order == "leave":
                return self._place.leave()
            else:
                self._connection.send((None, self._answer(order, value)))

    def _answer(self, order: str, value: Any) -> Check | None:
        match order:
            case "join":
                self._place.join()
            case "prepare":
                make, params, seed = value
                self._part = make(params, self._place.torch_device, seed)
            case "check":
                assert self._part is not None
                return dataclasses.replace(self._part.check(), output=None)
            case "drop":
                self._part = None
                gc.collect()
        return None

    def _run(self, at_once: int) -> None:
        """Launch until the end. A GPU gets so many at once while it performs as many: it never has more than both."""
        import torch

        assert self._part is not None
        launches, queued = 0, None
        while launches < self._last:
            self._part.launch()
            launches += 1
            if self._place.is_gpu and launches % at_once == 0:
                earlier, queued = queued, torch.cuda.Event()
                queued.record()
                if earlier is not None:
                    earlier.synchronize()
