"""What a seal says of a run, worked out again from the result and the criteria that are in the bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bench
from bench import store
from bench.acceptance import canonical
from bench.criteria import file as criteria_files
from bench.errors import BadSeal, UsageError
from bench.files import writing
from bench.seal import verdict
from bench.seal.evidence import NONCE_TAG
from bench.seal.verify import Verified


def check(verified: Verified) -> None:
    """See that a signer with a program of his own said nothing of the run that its files do not say.

    Raises:
        BadSeal: he did.
        UsageError: result or criteria cannot be read by this version.
        OutputNotWritable: there is no room for them in the folder of temporary files.
    """
    place = Path(tempfile.gettempdir())
    with writing(place, "Free space, or name another folder in TMPDIR"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in {verdict.RESULT, verdict.CRITERIA} & verified.contents.keys():
            (folder / file).write_bytes(verified.contents[file])
        try:
            _check_run(verified, folder / verdict.RESULT)
            if verdict.VERDICT in verified.contents:
                _check_verdict(verified, folder)
        except UsageError as error:
            raise error.with_words(error.what.replace(f"{folder}/", ""), error.remedy) from None


def _check_run(verified: Verified, result: Path) -> None:
    plan, run = store.read(result)[0], verified.run
    said = {
        "run_id": plan.run_id,
        "node": plan.node,
        "suite": plan.suite,
        "started_at": plan.started_at,
        "measured_with": plan.vnbench_version,
        "source_commit": plan.source_commit,
        "nonce": plan.tags.get(NONCE_TAG),
    }
    if wrong := [name for name, value in said.items() if getattr(run, name) != value]:
        raise BadSeal(f"the seal says another {', '.join(wrong)} than the result in the bundle")


def _check_verdict(verified: Verified, folder: Path) -> None:
    criteria = criteria_files.load(str(folder / verdict.CRITERIA))
    judged = canonical.judge_file(folder / verdict.RESULT, criteria)[1]
    if bytes(verified.contents[verdict.VERDICT]).removesuffix(b"\n") != judged:
        with_version = verified.run.sealed_with
        raise BadSeal(
            f"the verdict is not what result and criteria in the bundle give with vnbench {bench.__version__}",
            f"It was sealed with vnbench {with_version}; if that is another version, verify with that one",
        )
