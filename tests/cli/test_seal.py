"""``vnbench keygen``, ``seal``, ``countersign``, ``verify`` as their users meet them, and as an attacker does."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.seal import evidence
from tests.checkout import ROOT
from tests.seal.bundles import OPERATOR
from tests.stored import stored

RUN_ID = "5f0c2a91be"
CRITERIA = b"""format = 1
title = "a contract"
device = "cpu"
[[inventory]]
id = "cpu"
what = "devices"
equal = 1
source = "clause 2"
"""


class Node:
    """A folder with a result in it, and the program in this process; all that it ever printed is kept."""

    def __init__(self, folder: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        self.folder = folder
        self.printed = ""
        self._call = call

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code, out, err = self._call(*arguments)
        self.printed += out + err
        assert "Traceback" not in err
        return code, out, err

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Node:
    """With a result, criteria and the operator's key."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vnbench", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
    stored(tmp_path / "results", run_id=RUN_ID, plan={"started_at": now, "tags": {"nonce": "8c1e"}})
    (tmp_path / "c.toml").write_bytes(CRITERIA)
    (tmp_path / "other.toml").write_bytes(CRITERIA.replace(b"equal = 1", b"equal = 2"))
    made = Node(tmp_path, call)
    assert made("keygen", "operator")[0] == 0
    return made


def test_a_bundle_makes_a_page_that_says_who_sealed_it(node: Node) -> None:
    seal = ("seal", RUN_ID, "--key", "operator.key", "--out")
    assert node(*seal, "b.tar", "--criteria", "c.toml")[0] == 0
    shown = ("--key", "operator.pub", "--html", "b.html", "--lang")
    assert node("verify", "b.tar", *shown, "vi")[0] == 0
    page = node.path("b.html").read_text()
    assert "đã niêm phong lượt đo" in page and "Chưa niêm phong" not in page
    key_id = node("verify", "b.tar", "--key", "operator.pub")[1].partition("  key ")[2].partition("\n")[0]
    assert f"<code>{key_id}</code>" in page
    assert "vnbench verify BUNDLE --key NAME.pub" in page
    node.path("b.html").unlink()
    node.path("b.tar").write_bytes(node.path("b.tar").read_bytes()[:-1])
    assert node("verify", "b.tar", *shown, "en")[0] == 5
    assert not node.path("b.html").exists(), "what is not good has no page"


def test_a_bundle_without_a_verdict_has_no_page(node: Node) -> None:
    assert node("seal", RUN_ID, "--key", "operator.key", "--out", "b.tar")[0] == 0
    code, _, err = node("verify", "b.tar", "--key", "operator.pub", "--html", "b.html")
    assert (code, err) == (2, "vnbench: the bundle has no verdict that a page could show. Seal it with --criteria\n")


def test_what_is_sealed_with_criteria_is_judged_by_them(node: Node) -> None:
    assert node("seal", "5f0c", "--key", "operator.key", "--criteria", "cpu-node", "--out", "judged.seal.tar")[0] == 0
    code, out, _ = node("verify", "judged.seal.tar", "--key", "operator.pub", "--json")
    assert code == 0
    assert json.loads(out)["run"]["verdict"] in ("FAIL", "INCONCLUSIVE"), (
        "of this result, that has none of the workloads"
    )
    with tarfile.open(node.path("judged.seal.tar")) as bundle:
        sealed = bundle.extractfile("verdict.json")
        assert sealed is not None
        assert sealed.read().decode() == node("judge", "5f0c", "--criteria", "cpu-node", "--json")[1]


SEAL = ("seal", "5f0c", "--key", "operator.key", "--criteria", "c.toml")
BUNDLE = f"{RUN_ID}.seal.tar"


def test_a_run_is_sealed_countersigned_and_verified(node: Node) -> None:
    assert node("keygen", "inspector")[0] == 0
    code, out, err = node(*SEAL)
    assert (code, out) == (0, f"{BUNDLE}\n")
    assert "4 files, PASS, key " in err
    code, out, _ = node("countersign", BUNDLE, "--key", "inspector.key", "--signer", "operator.pub")
    twice = f"{RUN_ID}.countersigned.seal.tar"
    assert (code, out) == (0, f"{twice}\n")
    pinned = ("--key", "operator.pub", "--key", "inspector.pub")
    code, out, _ = node("verify", twice, *pinned, "--nonce", "8c1e", "--criteria", "c.toml", "--require", "inspector")
    assert code == 0, out
    lines = out.splitlines()
    assert lines[0] == f"good seal: run {RUN_ID} of node node7, PASS"
    signed = [line for line in lines if " by " in line]
    assert [line.split(" at ")[0] for line in signed] == ["countersigned by inspector", "sealed by operator"]
    assert "nonce     8c1e" in lines
    assert "It does not prove that they were honest" in lines[-1]
    found = json.loads(node("verify", twice, *pinned, "--json")[1])
    assert found["good"] is True
    assert [(link["name"], link["kind"]) for link in found["chain"]] == [
        ("inspector", "countersignature"),
        ("operator", "run"),
    ]
    assert found["run"]["verdict"] == "PASS"
    assert len(found["files"]) == 4


def test_a_trust_file_gives_names_and_roles(node: Node) -> None:
    assert node(*SEAL)[0] == 0
    key = node.path("operator.pub").read_text().splitlines()[1]
    node.path("trust.toml").write_text(f'["Hà Nội 1"]\nkey = "{key}"\nrole = "operator"\n')
    code, out, _ = node("verify", BUNDLE, "--trust", "trust.toml", "--require", "operator")
    assert code == 0
    assert "sealed by Hà Nội 1 (operator) at " in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nonce", "fresh"], "not the nonce that was asked for, 'fresh': it has '8c1e'"),
        (["--max-age", "1ms"], "too old"),
        (["--criteria", "other.toml"], "judged by other criteria"),
        (["--require", "inspector"], "no seal of 'inspector'"),
    ],
)
def test_a_demand_that_is_not_met_is_a_bad_seal(node: Node, options: list[str], words: str) -> None:
    assert node(*SEAL)[0] == 0
    code, out, err = node("verify", BUNDLE, "--key", "operator.pub", *options)
    assert (code, out) == (5, "")
    assert err.startswith(f"vnbench: BAD SEAL: {BUNDLE}: ")
    assert words in err
    assert len(err.splitlines()) == 1
    code, out, err = node("verify", BUNDLE, "--key", "operator.pub", *options, "--json")
    assert (code, err) == (5, "")
    found = json.loads(out)
    assert (found["good"], found["exit_code"]) == (False, 5)
    assert words in found["what"]


def test_an_unknown_key_and_a_changed_byte_are_bad_seals_and_another_file_is_unreadable(node: Node) -> None:
    assert node(*SEAL)[0] == 0
    assert node("keygen", "mallory")[0] == 0
    code, _, err = node("verify", BUNDLE, "--key", "mallory.pub")
    assert code == 5
    assert "signed with an unknown key" in err
    data = bytearray(node.path(BUNDLE).read_bytes())
    data[data.index(b"PAR1") + 10] ^= 1
    node.path("changed").write_bytes(data)
    code, _, err = node("verify", "changed", "--key", "operator.pub")
    assert code == 5
    assert "result.parquet was changed" in err
    assert node("countersign", "changed", "--key", "mallory.key", "--signer", "operator.pub")[0] == 5
    for name in ("c.toml", "results", "none"):
        code, out, err = node("verify", name, "--key", "operator.pub")
        assert (code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nonce": "fresh"}, "the seal says another nonce than the result"),
        ({"started_at": "2026-11-22T05:00:00+00:00"}, "the seal says another started_at than the result"),
        ({"node": "node8", "run_id": "91be000000"}, "the seal says another run_id, node than the result"),
        ({"verdict": "FAIL"}, "the verdict is not what result and criteria in the bundle give"),
    ],
)
def test_what_a_signer_with_a_program_of_his_own_says_of_a_run_is_found_out(
    node: Node, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], words: str
) -> None:
    """The verdict of the files is the one that the seal states, so that only judging again can tell."""
    gather = evidence.gather

    def lying(*arguments: Any, **options: Any) -> Any:
        files, predicate = gather(*arguments, **options)
        told = {name: changes[name] for name in ("verdict", "run_id") if name in changes}
        said = json.loads(files["verdict.json"]) | told
        return {**files, "verdict.json": json.dumps(said).encode()}, dataclasses.replace(predicate, **changes)

    monkeypatch.setattr(evidence, "gather", lying)
    assert node(*SEAL, "--out", "lie.seal.tar")[0] == 0
    code, out, err = node("verify", "lie.seal.tar", "--key", "operator.pub")
    assert (code, out) == (5, "")
    assert words in err
    code, _, err = node("countersign", "lie.seal.tar", "--key", "operator.key", "--signer", "operator.pub")
    assert code == 5 and words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "x"], "no key to verify with"),
        (["verify", "x", "--key", "operator.key"], "is a private key"),
        (["verify", "x", "--key", "operator.pub", "--criteria", "none"], "No such file"),
        (["verify", "x", "--key", "operator.pub", "--max-age", "long"], "not a duration"),
        (["countersign", "x", "--key", "operator.key"], "no key to verify with"),
        (["seal", "5f0c", "--key", "operator.pub"], "is a public key"),
        (["seal", "none", "--key", "operator.key"], "no result at 'none'"),
        (["seal", "5f0c", "--key", "operator.key", "--criteria", "none"], "No such file"),
        (["seal", "5f0c", "--key", "operator.key", "--criteria", "operator.pub"], "operator.pub: "),
        (["keygen", "."], "no name of a key"),
        (["keygen", "operator"], "is there already"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(node: Node, arguments: list[str], words: str) -> None:
    before = sorted(node.folder.rglob("*"))
    code, out, err = node(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(node.folder.rglob("*")) == before


def test_a_simulated_run_is_not_sealed(node: Node) -> None:
    stored(node.path("results"), run_id="91be000000", validity=["simulated"])
    code, _, err = node("seal", "91be", "--key", "operator.key")
    assert code == 2
    assert "is simulated" in err
    assert not list(node.folder.glob("*.seal.tar"))


def test_a_bundle_is_never_replaced(node: Node) -> None:
    assert node(*SEAL)[0] == 0
    before = node.path(BUNDLE).read_bytes()
    code, _, err = node(*SEAL)
    assert code == 2
    assert "no bundle is ever replaced" in err
    assert node.path(BUNDLE).read_bytes() == before
    assert node(*SEAL, "--out", "another.tar")[0] == 0
    assert node(*SEAL, "--out", "no/folder.tar")[0] == 7


def test_no_command_ever_prints_a_private_key_or_seals_it(node: Node) -> None:
    node(*SEAL)
    node("verify", BUNDLE, "--key", "operator.key")
    node("verify", BUNDLE, "--key", "operator.pub", "--trust", "operator.key")
    node("countersign", BUNDLE, "--key", "operator.key", "--signer", "operator.pub")
    node("seal", "operator.key", "--key", "operator.key")
    node("verify", "operator.key", "--key", "operator.pub", "--json")
    node.path("bad.key").touch(mode=0o600)
    node.path("bad.key").write_bytes(node.path("operator.key").read_bytes().replace(b"END", b"DNE"))
    node("seal", "5f0c", "--key", "bad.key")
    secret = node.path("operator.key").read_text().splitlines()[1]
    assert len(secret) == 64
    # 16 of its characters are four of the key's 32 bytes and more; the first 20 are alike in all keys.
    pieces = [secret[i : i + 16] for i in range(20, len(secret) - 16)]
    everything = node.printed.encode() + b"".join(path.read_bytes() for path in node.folder.glob("*.tar"))
    assert not [piece for piece in pieces if piece.encode() in everything]
    assert node.path("operator.pub").read_text().splitlines()[1] in node.printed


def test_the_whole_way_in_processes_of_its_own(node: Node) -> None:
    def vnbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench", *arguments]
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=node.folder, env=variables, capture_output=True, text=True, check=False)

    made = vnbench("keygen", "second")
    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(node.path("second.key").stat().st_mode) == 0o600
    assert vnbench("seal", "5f0c", "--key", "second.key").returncode == 0
    good = vnbench("verify", BUNDLE, "--key", "second.pub")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith(f"good seal: run {RUN_ID} of node node7, no verdict")
    bad = vnbench("verify", BUNDLE, "--key", "operator.pub")
    assert (bad.returncode, bad.stdout) == (5, "")


def test_the_recipe_of_the_documentation_verifies_a_bundle_without_vnbench(node: Node) -> None:
    assert node(*SEAL, "--out", "node7.seal.tar")[0] == 0
    recipe = (ROOT / "docs" / "seal.md").read_text().partition("## Without vnbench")[2]
    script = recipe.partition("```bash\n")[2].partition("```")[0]

    def verified() -> tuple[int, str]:
        done = subprocess.run(["bash", "-ec", script], cwd=node.folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    code, out = verified()
    assert code == 0
    assert out.splitlines() == [
        *(f"{name} ok" for name in ("criteria.toml", "environment.json", "result.parquet", "verdict.json")),
        "Signature Verified Successfully",
    ]
    data = node.path("node7.seal.tar").read_bytes()
    node.path("node7.seal.tar").write_bytes(data.replace(CRITERIA, CRITERIA.replace(b"equal = 1", b"equal = 2")))
    assert "criteria.toml CHANGED" in verified()[1]
    node.path("operator.pub").write_bytes(OPERATOR.public.pem)
    assert verified()[0] != 0
