"""The product that reaches a compute roof, found by search in a process of its own, as a run does it.

What the search saw of it counts nowhere: the limit is measured anew in every session.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import registry, search
from bench.device import select

BUDGET_S = 20.0


def found(roof: str, device: str) -> dict[str, Any]:
    """The workload that performs the roof, and what the search for it took; a roof of bytes performs itself."""
    if not roof.startswith("roof/compute/"):
        return {"candidate": roof}
    command = [sys.executable, "-m", "tests.peers.limit", roof, device]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    winner: dict[str, Any] = json.loads(ended.stdout)
    return winner


def main(roof: str, device: str) -> None:
    (info, *_) = select.find(device)
    with tempfile.TemporaryDirectory(prefix="vnbench-peers-") as scratch:
        winner = search.search(registry.resolve(roof), select.open_device(info, Path(scratch)), BUDGET_S)
    print(json.dumps(dataclasses.asdict(winner)))


if __name__ == "__main__":
    main(*sys.argv[1:])
