"""``bench.seal.verify`` as an attacker meets it: whatever he changes, swaps, replays or signs himself is refused."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadSeal, UnreadableResult, UsageError
from bench.seal import archive, envelope, statement
from bench.seal import verify as seals
from bench.seal.bundle import seal
from bench.seal.countersign import countersign
from bench.seal.keys import PrivateKey
from bench.seal.statement import Countersignature
from bench.seal.verify import INNER, MAX_LINKS
from tests.seal.bundles import (
    FILES,
    INSPECTOR,
    MALLORY,
    NONCE,
    NOW,
    OPERATOR,
    RUN,
    TRUSTED,
    parts,
    sealed,
    sha256,
    signed_statement,
    verdict_on,
    verified,
    with_files,
)

BUNDLE = sealed()
TWICE, _ = countersign(BUNDLE, INSPECTOR, TRUSTED, NOW)
NAME_OF_THE_MANIFEST = 100  # bytes: what is changed in them makes it no bundle at all


def refused(bundle: bytes, words: str, **demands: object) -> None:
    with pytest.raises(BadSeal, match=words):
        verified(bundle, **demands)


# ---------------------------------------------------------------- what is good


def test_a_bundle_that_nobody_touched_is_good() -> None:
    found = verified(BUNDLE, nonce=NONCE, max_age_s=86400.0, criteria_sha256=RUN.criteria_sha256, signers=("operator",))
    assert found.run == RUN
    assert [link.signer.name for link in found.links] == ["hanoi-1"]
    assert [one.name for one in found.files] == sorted(FILES)


def test_equal_evidence_makes_equal_bytes() -> None:
    assert sealed() == BUNDLE
    assert sealed(dict(reversed(list(FILES.items())))) == BUNDLE


def test_a_chain_is_followed_from_the_outermost_seal_to_that_of_the_run() -> None:
    found = verified(TWICE, nonce=NONCE, signers=("operator", "inspector", INSPECTOR.public.id))
    assert [link.signer.name for link in found.links] == ["inspector", "hanoi-1"]
    assert found.run == RUN
    assert [one.name for one in found.files] == sorted(FILES)


def test_a_run_without_a_verdict_is_sealed_as_one() -> None:
    files = {"result.parquet": b"PAR1", "environment.json": b"{}"}
    found = verified(sealed(files, verdict=None, criteria_sha256=None, nonce=None))
    assert (found.run.verdict, found.run.nonce) == (None, None)


# ---------------------------------------------------------------- changed bytes


def is_refused(data: bytes, position: int) -> bool:
    try:
        verified(data)
    except BadSeal:
        return True
    except UnreadableResult:
        return position < NAME_OF_THE_MANIFEST
    return False


@pytest.mark.parametrize("bundle", [BUNDLE, TWICE], ids=["one seal", "two seals"])
def test_each_byte_counts(bundle: bytes) -> None:
    """One bit of each byte in turn; hypothesis below takes other bits."""
    data = bytearray(bundle)
    passed = []
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        if not is_refused(bytes(data), position):
            passed.append(position)
        data[position] = bundle[position]
    assert passed == []


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TWICE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, mask: int) -> None:
    data = bytearray(TWICE)
    data[position] ^= mask
    assert is_refused(bytes(data), position)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(TWICE)), st.binary(max_size=700), st.integers(0, 700))
def test_bytes_put_in_and_taken_out_are_refused(position: int, put: bytes, taken: int) -> None:
    data = TWICE[:position] + put + TWICE[position + taken :]
    assert data == TWICE or is_refused(data, position)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(TWICE) - 1))
def test_a_bundle_cut_anywhere_is_refused(length: int) -> None:
    assert is_refused(TWICE[:length], length)


# ---------------------------------------------------------------- files


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in FILES.items() if key != name}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**FILES, "result.parquet": b"PAR1 better PAR1"}, r"^result\.parquet was changed$"),
        ({**FILES, "log.txt": b"more"}, r"^log\.txt was changed$"),
        ({**FILES, "note.txt": b"approved"}, r"^note\.txt was added$"),
        (without("telemetry.parquet"), r"^telemetry\.parquet is missing$"),
        (
            {**without("telemetry.parquet"), "other.parquet": FILES["telemetry.parquet"]},
            r"^telemetry\.parquet is missing; other\.parquet was added$",
        ),
        (
            {**FILES, "result.parquet": FILES["telemetry.parquet"], "telemetry.parquet": FILES["result.parquet"]},
            r"^result\.parquet was changed; telemetry\.parquet was changed$",
        ),
        ({**FILES, "criteria.toml": b"[easier]\n"}, r"^criteria\.toml was changed$"),
        ({}, "is missing"),
    ],
)
def test_files_that_are_not_those_sealed_are_named(files: dict[str, bytes], words: str) -> None:
    refused(with_files(BUNDLE, files), words)


def test_the_manifest_of_another_good_bundle_does_not_fit() -> None:
    other = sealed(
        {**FILES, "result.parquet": b"PAR1 x PAR1", "verdict.json": verdict_on(b"PAR1 x PAR1", b"[criteria]\n")}
    )
    assert verified(other)
    refused(archive.pack(parts(other)[0], parts(BUNDLE)[1]), r"result\.parquet was changed; verdict\.json was changed")


# ---------------------------------------------------------------- keys and signatures


def test_an_unknown_key_is_refused_even_with_its_public_half_in_the_bundle() -> None:
    refused(sealed({**FILES, "operator.pub": MALLORY.public.pem}, MALLORY), f"unknown key, {MALLORY.public.id}")


def test_a_bundle_without_a_signature_is_refused() -> None:
    payload = statement.state(FILES, RUN)
    refused(archive.pack(payload, FILES), "no DSSE envelope")


def test_a_signature_of_something_else_is_refused() -> None:
    payload = statement.state(FILES, RUN)
    refused(archive.pack(envelope.sign(payload, OPERATOR, "application/json"), FILES), "signed something else")
    other = statement.state({"a": b""}, RUN)
    stolen = envelope.sign(other, OPERATOR).replace(base64.b64encode(other), base64.b64encode(payload))
    refused(archive.pack(stolen, FILES), "does not match")


# ---------------------------------------------------------------- what a trusted signer got wrong, or faked


def test_a_verdict_on_other_criteria_is_refused_although_it_was_signed() -> None:
    easier = b"[easier]\n"
    files = {**FILES, "criteria.toml": easier}
    refused(sealed(files, criteria_sha256=sha256(easier)), r"verdict is of another criteria\.toml")
    refused(sealed(files), "names other criteria")
    refused(sealed(without("criteria.toml")), "names other criteria")


def test_a_verdict_on_another_result_is_refused_although_it_was_signed() -> None:
    refused(sealed({**FILES, "result.parquet": b"other"}), r"verdict is of another result\.parquet")


def test_a_seal_that_says_another_verdict_than_its_file_is_refused() -> None:
    fail = verdict_on(FILES["result.parquet"], FILES["criteria.toml"], verdict="FAIL")
    refused(sealed({**FILES, "verdict.json": fail}), "the seal says PASS, the verdict in the bundle is FAIL")
    refused(sealed(without("verdict.json")), "the seal says PASS, the verdict in the bundle is missing")


def test_a_simulated_verdict_is_refused_although_it_was_signed() -> None:
    simulated = verdict_on(FILES["result.parquet"], FILES["criteria.toml"], simulated=True)
    refused(sealed({**FILES, "verdict.json": simulated}), "simulated")


def test_a_signed_statement_that_is_none_of_ours_is_refused_and_one_of_a_later_version_unreadable() -> None:
    refused(signed_statement(FILES, predicate={"verdict": "PASS"}), "no statement")
    refused(archive.pack(envelope.sign(b"[" * 100_000, OPERATOR), FILES), "no statement")
    later = "https://github.com/vnbench/vnbench/seal/run/v2"
    with pytest.raises(UnreadableResult, match="Upgrade"):
        verified(signed_statement(FILES, predicateType=later))
    # What Mallory signs is not even read so far.
    refused(signed_statement(FILES, MALLORY, predicateType=later), "unknown key")


# ---------------------------------------------------------------- replays


def test_an_old_bundle_with_another_nonce_or_none_is_refused() -> None:
    refused(BUNDLE, f"nonce that was asked for, 'fresh': it has '{NONCE}'", nonce="fresh")
    refused(sealed(nonce=None), "it has none", nonce="fresh")
    refused(TWICE, "nonce that was asked for", nonce="fresh")


def test_a_bundle_that_is_too_old_is_refused_by_the_runs_age_not_the_seals() -> None:
    assert verified(BUNDLE, max_age_s=7 * 3600.0)  # it began 6 h 45 min before now
    refused(BUNDLE, "too old: the run began at 2026-11-22T05:15", max_age_s=6 * 3600.0)
    fresh = sealed(sealed_at="2026-11-22T11:59:00+00:00")
    refused(fresh, "too old", max_age_s=6 * 3600.0)
    refused(TWICE, "too old", max_age_s=6 * 3600.0)  # countersigned now


def test_a_seal_from_the_future_is_refused_but_for_what_clocks_are_apart() -> None:
    assert verified(sealed(sealed_at="2026-11-22T12:05:00+00:00"))
    refused(sealed(sealed_at="2026-11-22T12:05:01+00:00"), "in the future")


def test_seals_that_are_not_in_the_order_of_time_are_refused() -> None:
    refused(sealed(sealed_at="2026-11-22T05:00:00+00:00"), "hanoi-1 .operator. sealed at .* before the run began")
    early = seal({INNER: BUNDLE}, Countersignature("2026-11-22T05:30:00+00:00", "0.1"), INSPECTOR)
    refused(early, "inspector sealed at .*, before hanoi-1 .operator. did")


def test_other_criteria_than_those_asked_for_are_refused() -> None:
    refused(BUNDLE, "judged by other criteria", criteria_sha256=sha256(b"the contract"))
    bare = sealed({"result.parquet": b""}, verdict=None, criteria_sha256=None)
    refused(bare, "judged by other criteria.*none", criteria_sha256=sha256(b"the contract"))


# ---------------------------------------------------------------- chains


def nested(inner: bytes, key: PrivateKey = INSPECTOR, name: str = INNER) -> bytes:
    """What somebody makes with that key who does not look at what he countersigns."""
    return seal({name: inner}, Countersignature("2026-11-22T07:00:00+00:00", "0.1"), key)


def test_an_inner_bundle_that_was_changed_is_refused() -> None:
    changed = with_files(BUNDLE, {**FILES, "result.parquet": b"better"})
    refused(with_files(TWICE, {INNER: changed}), r"^bundle\.seal\.tar was changed$")
    # Signed anew by Mallory, and by a careless inspector.
    refused(nested(changed, MALLORY), "unknown key")
    refused(nested(changed), r"result\.parquet was changed \(in the bundle that inspector countersigned\)")


def test_a_countersignature_does_not_make_the_seal_below_it_trusted() -> None:
    refused(nested(sealed(key=MALLORY)), r"unknown key, .* \(in the bundle that inspector countersigned\)")


def test_an_outer_seal_that_was_taken_off_is_missed_where_it_is_required() -> None:
    inner = parts(TWICE)[1][INNER]
    assert inner == BUNDLE
    refused(inner, "no seal of 'inspector'", signers=("operator", "inspector"))


def test_a_countersignature_of_something_else_is_refused() -> None:
    refused(nested(BUNDLE, name="other.tar"), "countersigned something that is no bundle")
    with pytest.raises(UnreadableResult, match=r"no bundle .*\(in the bundle that inspector countersigned\)"):
        verified(nested(b"no bundle at all"))


def test_a_chain_ends_somewhere() -> None:
    bundle = BUNDLE
    for _ in range(MAX_LINKS - 1):
        bundle, _ = countersign(bundle, INSPECTOR, TRUSTED, NOW)
    assert len(verified(bundle).links) == MAX_LINKS
    with pytest.raises(UsageError, match="as many as one can have"):
        countersign(bundle, INSPECTOR, TRUSTED, NOW)
    refused(seal({INNER: bundle}, Countersignature("2026-11-22T12:00:00+00:00", "0.1"), INSPECTOR), "more than 8 seals")


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1], lambda data: with_files(data, {}), lambda _: sealed(key=MALLORY)]
)
def test_what_is_not_good_is_not_countersigned(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BadSeal):
        countersign(spoil(BUNDLE), INSPECTOR, TRUSTED, NOW)


# ---------------------------------------------------------------- the file


def test_a_bundle_that_cannot_be_read_or_is_too_large_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableResult, match="No such file"):
        seals.read(tmp_path / "none")
    with pytest.raises(UnreadableResult, match="directory"):
        seals.read(tmp_path)
    with pytest.raises(UnreadableResult, match="no plain file"):
        seals.read(Path("/dev/zero"))
    (tmp_path / "large").write_bytes(BUNDLE)
    monkeypatch.setattr(archive, "MAX_BYTES", len(BUNDLE) - 1)
    with pytest.raises(UnreadableResult, match="more than"):
        seals.read(tmp_path / "large")


def test_now_is_this_machines_clock_unless_it_is_given() -> None:
    now = dt.datetime.now(dt.UTC)
    run = dataclasses.replace(RUN, sealed_at=(now + dt.timedelta(hours=1)).isoformat(timespec="seconds"))
    with pytest.raises(BadSeal, match="in the future"):
        seals.verify(seal(FILES, run, OPERATOR), TRUSTED)
