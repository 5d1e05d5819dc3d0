"""Verifying a bundle: the chain of its seals, from the outermost to that of the run; and what the asker demands.

At each link the order is: the container's form, the signature, only then what was signed, then the files' hashes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadSeal, UnreadableResult
from bench.seal import archive, envelope, statement, verdict
from bench.seal.keys import PublicKey
from bench.seal.statement import RunSeal, Statement, Subject, time_of
from bench.seal.trust import Signer

INNER = "bundle.seal.tar"  # the name of a bundle within the one that countersigns it
MAX_LINKS = 8  # seals in a chain

# What the clocks of two machines may be apart: without a network they drift by seconds a day.
CLOCK_TOLERANCE = dt.timedelta(minutes=5)

_NAME_ONE = "Name a bundle that vnbench seal made"


@dataclass(frozen=True)
class Demands:
    """What a bundle must be besides whole and signed by trusted keys."""

    nonce: str | None = None
    max_age_s: float | None = None  # since the run began, and so since any seal
    criteria_sha256: str | None = None
    signers: tuple[str, ...] = ()  # names, roles or key ids, each of which must have sealed


@dataclass(frozen=True)
class Link:
    """One seal of a chain."""

    signer: Signer
    statement: Statement


@dataclass(frozen=True)
class Verified:
    """A bundle whose every seal is good."""

    links: tuple[Link, ...]  # the outermost first
    run: RunSeal  # what the innermost says
    contents: Mapping[str, memoryview]  # the run's files, by name

    @property
    def files(self) -> tuple[Subject, ...]:
        """Those of the run."""
        return self.links[-1].statement.subjects


def read(path: Path) -> bytes:
    """The bytes of a bundle's file.

    Raises:
        UnreadableResult: it cannot be read, or is larger than any bundle.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableResult(f"{path}: no plain file", _NAME_ONE)
            if found.st_size > archive.MAX_BYTES:
                raise UnreadableResult(f"{path}: more than the {archive.MAX_BYTES} bytes of a bundle", _NAME_ONE)
            return file.read()
    except OSError as error:
        raise UnreadableResult(f"{path}: {error.strerror or error}", _NAME_ONE) from None


def verify(
    bundle: bytes, trusted: Mapping[PublicKey, Signer], demands: Demands | None = None, now: dt.datetime | None = None
) -> Verified:
    """Verify a bundle against keys that are trusted, and against demands.

    Raises:
        UnreadableResult: it is no bundle, or one of another version.
        BadSeal: a seal in it is not good, or a demand is not met; the text says what is wrong.
    """
    links, files = _open(memoryview(bundle), trusted)
    run = links[-1].statement.predicate
    assert isinstance(run, RunSeal)
    _check_run(run, files)
    _check_times(links, run, now or dt.datetime.now(dt.UTC), demands or Demands())
    _check_demands(links, run, demands or Demands())
    return Verified(tuple(links), run, files)


def _open(data: memoryview, trusted: Mapping[PublicKey, Signer]) -> tuple[list[Link], dict[str, memoryview]]:
    """The links of the chain, and the files of the innermost bundle."""
    links: list[Link] = []
    while len(links) < MAX_LINKS:
        try:
            files = archive.unpack(data)
            payload, key = envelope.opened(bytes(files.pop(archive.MANIFEST)), trusted)
            signed = statement.decode(payload)
            _check_files(signed.subjects, files)
        except (BadSeal, UnreadableResult) as error:
            if links:
                words = f"{error.what} (in the bundle that {links[-1].signer.words} countersigned)"
                raise type(error)(words, error.remedy) from None
            raise
        links.append(Link(trusted[key], signed))
        if isinstance(signed.predicate, RunSeal):
            return links, files
        if list(files) != [INNER]:
            raise BadSeal(f"{links[-1].signer.words} countersigned something that is no bundle")
        data = files[INNER]
    raise BadSeal(f"more than {MAX_LINKS} seals, one within another")


def _check_files(subjects: Sequence[Subject], files: Mapping[str, memoryview]) -> None:
    """Every file is as it was sealed, none is missing and none was added; all that is wrong is told at once."""
    sealed = {subject.name: subject for subject in subjects}
    wrong = [f"{name} is missing" for name in sealed if name not in files]
    wrong += [f"{name} was added" for name in files if name not in sealed]
    wrong += [
        f"{name} was changed"
        for name, content in files.items()
        if name in sealed
        and (len(content), hashlib.sha256(content).hexdigest()) != (sealed[name].size, sealed[name].sha256)
    ]
    if wrong:
        raise BadSeal("; ".join(wrong))


def _check_run(run: RunSeal, files: Mapping[str, memoryview]) -> None:
    """What the seal says of the run is what its files say; a signer that did not go by the rules is found here."""
    criteria = hashlib.sha256(files[verdict.CRITERIA]).hexdigest() if verdict.CRITERIA in files else None
    if run.criteria_sha256 != criteria:
        raise BadSeal("the seal names other criteria than the bundle holds")
    try:
        said = verdict.outcome(files, run.run_id)
    except ValueError as error:
        raise BadSeal(str(error)) from None
    if said != run.verdict:
        raise BadSeal(f"the seal says {run.verdict or 'no verdict'}, the verdict in the bundle is {said or 'missing'}")


def _check_times(links: Sequence[Link], run: RunSeal, now: dt.datetime, demands: Demands) -> None:
    """Each step comes after the one before, by the signers' clocks, and none after now."""
    started_at = time_of(run.started_at)
    before, what = started_at, "the run began"
    for link in reversed(links):
        sealed_at = time_of(link.statement.predicate.sealed_at)
        if sealed_at > now + CLOCK_TOLERANCE:
            raise BadSeal(
                f"sealed in the future, at {sealed_at.isoformat()}", "Check this machine's clock, and the signer's"
            )
        if sealed_at < before - CLOCK_TOLERANCE:
            raise BadSeal(f"{link.signer.words} sealed at {sealed_at.isoformat()}, before {what}")
        before, what = sealed_at, f"{link.signer.words} did"
    if demands.max_age_s is not None and (age_s := (now - started_at).total_seconds()) > demands.max_age_s:
        raise BadSeal(
            f"too old: the run began at {started_at.isoformat()}, {age_s / 86400:.1f} days ago, "
            f"and {demands.max_age_s / 86400:g} are allowed"
        )


def _check_demands(links: Sequence[Link], run: RunSeal, demands: Demands) -> None:
    if demands.nonce is not None and run.nonce != demands.nonce:
        found = f"it has {run.nonce!r}" if run.nonce else "it has none"
        raise BadSeal(f"not the nonce that was asked for, {demands.nonce!r}: {found}", "This may be an old bundle")
    if demands.criteria_sha256 is not None and run.criteria_sha256 != demands.criteria_sha256:
        found = f"SHA-256 {run.criteria_sha256}" if run.criteria_sha256 else "none"
        raise BadSeal(f"judged by other criteria than those that were asked for: {found}")
    for text in demands.signers:
        if not any(link.signer.is_called(text) for link in links):
            raise BadSeal(f"there is no seal of {text!r} on it")
