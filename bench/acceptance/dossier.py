"""``Dossier``: a verdict with all that a report of it shows: the run, its series, the hashes, and the seal."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import series, store
from bench.acceptance.judge import judge
from bench.acceptance.model import Verdict
from bench.criteria import file as files
from bench.criteria.model import Criteria
from bench.errors import UsageError
from bench.files import writing
from bench.schema import Row
from bench.seal import verdict as names
from bench.seal.verify import Verified
from bench.telemetry.reading import Reading
from bench.types import Plan


@dataclass(frozen=True)
class Dossier:
    verdict: Verdict
    criteria: Criteria
    plan: Plan
    rows: Sequence[Row]
    readings: Sequence[Reading]  # none where the run has no series
    result_name: str
    result_sha256: str
    seal: Verified | None = None  # of the bundle that it was read from

    @property
    def criteria_name(self) -> str:
        """What ``--criteria`` takes, without a folder: that differs from machine to machine."""
        path = self.criteria.path
        return path.stem if path.parent == files.FOLDER else path.name


def gather(result: Path, criteria: Criteria, telemetry: Path | None = None, *, seal: Verified | None = None) -> Dossier:
    """The dossier of a result file.

    Args:
        telemetry: its time series; looked for in the results folder if not named.

    Raises:
        UnreadableResult, UsageError: see `bench.store.read`, `bench.series.read` and `bench.acceptance.judge.judge`.
    """
    plan, rows = store.read(result)
    source = telemetry or series.find(result, plan)
    return Dossier(
        judge(plan, rows, criteria),
        criteria,
        plan,
        rows,
        series.read(source) if source else (),
        result.name,
        hashlib.sha256(result.read_bytes()).hexdigest(),
        seal,
    )


def of_bundle(verified: Verified) -> Dossier:
    """The dossier of a bundle whose seals and verdict were found good.

    Raises:
        UsageError: it was sealed without criteria, so there is no verdict in it.
        OutputNotWritable: there is no room for its files in the folder of temporary files.
    """
    if names.CRITERIA not in verified.contents:
        raise UsageError("the bundle has no verdict that a page could show", "Seal it with --criteria")
    place = Path(tempfile.gettempdir())
    with writing(place, "Free space, or name another folder in TMPDIR"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in {names.RESULT, names.CRITERIA, names.TELEMETRY} & verified.contents.keys():
            (folder / file).write_bytes(verified.contents[file])
        telemetry = folder / names.TELEMETRY
        criteria = files.load(str(folder / names.CRITERIA))
        return gather(folder / names.RESULT, criteria, telemetry if telemetry.exists() else None, seal=verified)
