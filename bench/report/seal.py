"""A bundle that was verified, for people and for scripts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from bench.message import say
from bench.seal.statement import RunSeal
from bench.seal.verify import Link, Verified
from bench.units import show_bytes

# Said under every seal that is good, for what is good is less than it looks.
WHAT_IT_PROVES = say(
    "A seal proves who signed what; times are the signers' own clocks. It does not prove that they were honest."
)


def text(verified: Verified) -> str:
    """Who sealed what and when, from the outermost seal to that of the run; then the files."""
    run = verified.run
    lines = [f"good seal: run {run.run_id} of node {run.node}, {run.verdict or 'no verdict'}", ""]
    for link in verified.links:
        lines += [_signed(link), f"  key {link.signer.key.id}"]
    facts = {
        "measured": f"{run.started_at}, suite {run.suite}, vnbench {run.measured_with}",
        "source": run.source_commit,
        "nonce": run.nonce,
        "criteria": run.criteria_sha256 and f"SHA-256 {run.criteria_sha256}",
    }
    lines += ["", *(f"{name:<10}{value or 'none'}" for name, value in facts.items()), ""]
    lines += [f"{one.name:<20}{show_bytes(one.size):>10}  SHA-256 {one.sha256}" for one in verified.files]
    return "\n".join([*lines, "", WHAT_IT_PROVES])


def to_json(verified: Verified) -> str:
    """The same for scripts."""
    found = {
        "good": True,
        "chain": [_as_json(link) for link in verified.links],
        "run": dataclasses.asdict(verified.run),
        "files": [dataclasses.asdict(one) for one in verified.files],
        "exit_code": 0,
    }
    return json.dumps(found, indent=2)


def bad_json(what: str, exit_code: int) -> str:
    """A seal that is not good, for scripts."""
    return json.dumps({"good": False, "what": what, "exit_code": exit_code}, indent=2)


def _signed(link: Link) -> str:
    said = link.statement.predicate
    did = "sealed" if isinstance(said, RunSeal) else "countersigned"
    return f"{did} by {link.signer.words} at {said.sealed_at}, vnbench {said.sealed_with}"


def _as_json(link: Link) -> dict[str, Any]:
    said = link.statement.predicate
    return {
        "name": link.signer.name,
        "role": link.signer.role,
        "key_id": link.signer.key.id,
        "kind": "run" if isinstance(said, RunSeal) else "countersignature",
        "sealed_at": said.sealed_at,
        "sealed_with": said.sealed_with,
    }
