"""What was recorded on a machine: a JSON file, whole after every session, that a later start goes on with."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED = ROOT / "results" / "peers" / "recording.json"


@dataclass
class Recording:
    machine: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)  # of each environment
    absent: dict[str, str] = field(default_factory=dict)  # environments that are not there, with the last words
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)  # by roof, what performs it
    failed: dict[str, dict[str, str]] = field(default_factory=dict)  # by line, who could not be measured and why
    sessions: list[dict[str, Any]] = field(default_factory=list)

    def of(self, line: str) -> list[dict[str, Any]]:
        return [session for session in self.sessions if session["line"] == line]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())


def load(path: Path) -> Recording:
    return Recording(**json.loads(path.read_text()))
