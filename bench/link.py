"""The line between a run and its workers: events one way, ``go`` the other, one JSON object a line.

Events: ``begin`` and ``done`` of an item, ``ready`` where its timing is about to start, ``winner`` or ``no-winner``
of a search, ``probed`` of a trial, ``calibration`` of the pass, ``fatal`` where the worker cannot go on. Events have a
pipe of their own, since libraries print to stdout as they please. A worker whose parent is gone ends itself.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any


class WorkerLink:
    """The worker's end."""

    def __init__(self, events_fd: int) -> None:
        self._events = os.fdopen(events_fd, "w", buffering=1)
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="vnbench-link", daemon=True).start()

    def tell(self, event: str, **fields: Any) -> None:
        self._events.write(json.dumps({"event": event, **fields}) + "\n")

    def begin(self, item: int) -> None:
        """Tell it with the size that the log has now, so that the item's last words are not another's."""
        sys.stdout.flush()
        self.tell("begin", item=item, log_bytes=os.fstat(sys.stdout.fileno()).st_size)

    def meet(self, item: int) -> str:
        """Wait until all workers of the group are about to time this item, and give the parent's line."""
        self.tell("ready", item=item)
        return self._heard.get()

    def _listen(self) -> None:
        # Blocks in read(2) without the interpreter lock, so it costs the measurement nothing. It reads below sys.stdin,
        # whose lock would be held for ever in a forked child: a data-loader process closes its stdin first of all.
        pending = b""
        while received := os.read(0, 4096):
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                self._heard.put(line.decode())
        # A closed pipe: the parent is gone. The group is this worker's own, with its data-loader processes.
        os.killpg(os.getpgrp(), signal.SIGKILL)
