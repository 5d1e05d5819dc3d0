"""``make peers``: installs the peers, takes sessions in turns over the lines, and prints the table.

It goes on where it stopped: sessions that were recorded on this machine, at this commit, are not taken again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.device import select
from bench.device.cpu import usable_cores
from bench.plan import source_commit
from bench.types import DeviceInfo
from tests.peers import environments, limit, play, report
from tests.peers.environments import PACKAGES, NotInstalled
from tests.peers.lines import OWN, Line, lines
from tests.peers.recording import PUBLISHED, ROOT, Recording, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="lines whose first workload contains one of these")
    parser.add_argument("--sessions", type=int, metavar="N", help="of each line, instead of the plan's")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no session after so many")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--environments", type=Path, default=environments.DEFAULT, help="where peers are installed")
    parser.add_argument("--anew", action="store_true", help="forget what was recorded")
    parser.add_argument(
        "--table", action="store_true", help="print the table of what was recorded, and measure nothing"
    )
    parser.add_argument("--publish", action="store_true", help="write the recording into results/ and docs/peers.md")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    folder = arguments.environments.resolve()
    (device, *_) = select.find(arguments.device)
    path = folder / f"recording-{device.kind}.json"
    recording = _begun(path, device, arguments.anew)
    everything = lines(device.kind)
    if not arguments.table:
        chosen = [one for one in everything if any(word in one.name for word in arguments.only or [""])]
        _record(chosen, recording, path, device, arguments.sessions, arguments.minutes * 60)
    print(report.markdown(recording, everything))
    if arguments.publish:
        recording.save(PUBLISHED)
        report.write(recording, everything)


def _begun(path: Path, device: DeviceInfo, anew: bool) -> Recording:
    machine = _machine(device)
    if path.exists() and not anew:
        recording = load(path)
        if recording.machine == machine:
            return recording
        _say(f"{path} was recorded on another machine or at another commit: it is begun anew")
    return Recording(machine)


def _machine(device: DeviceInfo) -> dict[str, Any]:
    """What says that sessions belong together, and what a reader wants to know."""
    keys = environment.capture(device).keys
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False) if _has_cc() else None
    return {
        "kind": device.kind,
        "commit": (source_commit() or "unknown")[:12],
        "name": device.name or keys["cpu_model"] or "unknown",
        "threads": usable_cores(),
        "memory_bytes": keys["memory_bytes"],
        "os": keys["os"],
        "python": keys["python"],
        "compiler": compiler.stdout.splitlines()[0] if compiler else "no C compiler",
    }


def _has_cc() -> bool:
    return shutil.which("cc") is not None


def _record(
    chosen: Sequence[Line], recording: Recording, path: Path, device: DeviceInfo, sessions: int | None, limit_s: float
) -> None:
    """Make ready what is missing, then take sessions in turns over the lines, so that drift befalls all alike."""
    began_s = time.monotonic()
    interpreters = _installed(chosen, recording, path.parent)
    for roof in dict.fromkeys(line.limit for line in chosen if line.limit):
        if roof not in recording.limits:
            _say(f"looking for {roof}")
            recording.limits[roof] = limit.found(roof, device.label)
    arms = {line.name: _arms(line, recording, interpreters, path.parent, device) for line in chosen}
    recording.save(path)
    for number in range(max((sessions or line.sessions for line in chosen), default=0)):
        for line in chosen:
            if len(recording.of(line.name)) > number or number >= (sessions or line.sessions):
                continue
            if "ours" in recording.failed.get(line.name, {}) or time.monotonic() - began_s > limit_s:
                continue
            _take(line, arms, recording, device, number)
            recording.save(path)


def _installed(chosen: Sequence[Line], recording: Recording, folder: Path) -> dict[str, str]:
    """The interpreters of the environments that can be made."""
    found = {}
    for name in dict.fromkeys(peer.environment for line in chosen for peer in line.peers if peer.environment != OWN):
        try:
            found[name] = environments.interpreter(name, folder)
        except NotInstalled as error:
            recording.absent[name] = str(error)
        else:
            recording.absent.pop(name, None)
            recording.versions[name] = environments.versions(found[name], PACKAGES[name])
    return found


def _arms(
    line: Line, recording: Recording, interpreters: Mapping[str, str], folder: Path, device: DeviceInfo
) -> play.Contestants:
    variables = {"PEER_DEVICE": "cpu" if device.kind == "cpu" else device.label, "PEER_FOLDER": str(folder)}
    usable = dict(interpreters)
    if "llama-cpp" in usable and any(peer.environment == "llama-cpp" for peer in line.peers):
        try:
            variables["PEER_GGUF"] = str(environments.gguf(line.variables["PEER_MODEL"], folder))
        except NotInstalled as error:
            recording.failed.setdefault(line.name, {})["llama.cpp"] = f"no model file: {error}"
            del usable["llama-cpp"]
    candidate = recording.limits[line.limit]["candidate"] if line.limit else None
    return play.contestants(line, candidate, usable, variables)


def _take(line: Line, arms: dict[str, play.Contestants], recording: Recording, device: DeviceInfo, number: int) -> None:
    """One session; who fails is left out of this one and all that follow, and it says why."""
    while (who := arms[line.name]).peers:
        began_s = time.monotonic()
        rows = play.session(line, who, device, number)
        failures = play.failures(rows)
        if not failures:
            recording.sessions.append(play.record(line, who, rows, number))
            _say(f"session {number + 1} of {line.name}: {time.monotonic() - began_s:.0f} s")
            return
        for peer, arm in who.peers.items():
            if arm.name in failures:
                recording.failed.setdefault(line.name, {})[peer] = failures.pop(arm.name)
                arms[line.name] = arms[line.name].without(peer)
        if failures:  # of ours, or of the limit
            recording.failed.setdefault(line.name, {})["ours"] = "; ".join(failures.values())
            return


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
