"""``bench.anonymous``: the same part has the same pseudonym, and no name is left anywhere."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from bench import anonymous

UUID = "GPU-5f0c2a91-be00-1234-5678-0123456789ab"
SLICE = "MIG-5f0c2a91-be00-1234-5678-0123456789ab"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(anonymous, "_KEY_FILES", (str(tmp_path / "absent"), str(path)))
    return path


def test_a_pseudonym_is_the_same_for_the_same_name_on_the_same_machine_only(machine: Path) -> None:
    first = anonymous.pseudonym("node7", "node")
    assert first == anonymous.pseudonym("node7", "node")
    assert first != anonymous.pseudonym("node8", "node")
    machine.write_text("another machine")
    assert first != anonymous.pseudonym("node7", "node")


def test_a_pseudonym_is_hmac_sha256_under_the_machine_s_id() -> None:
    """RFC 2104, worked out with Python's hmac outside the module."""
    import hmac

    expected = hmac.digest(b"0123456789abcdef0123456789abcdef", b"node7", "sha256").hex()[:12]
    assert anonymous.pseudonym("node7", "node") == f"node-{expected}"


def test_uuids_are_replaced_wherever_they_stand() -> None:
    value = {"a": [f"CUDA_VISIBLE_DEVICES={UUID},{SLICE}"], "b": (UUID, 1, None, 2.5), "c": {"d": UUID}}
    clean = anonymous.scrubbed(value)
    assert "5f0c2a91" not in json.dumps(clean)
    assert clean["c"]["d"] == clean["b"][0] == anonymous.pseudonym(UUID)
    assert clean["b"][1:] == (1, None, 2.5)
    assert clean["a"][0].startswith("CUDA_VISIBLE_DEVICES=id-")


def test_serials_are_found_by_their_key_and_replaced_in_other_texts_too() -> None:
    value = {"gpu": {"serial": "1654223012345", "board_serial_number": "XY77"}, "text": "board 1654223012345/XY77"}
    clean = anonymous.scrubbed(value)
    assert "1654223012345" not in json.dumps(clean)
    assert "XY77" not in json.dumps(clean)


def test_the_name_of_the_host_is_replaced_where_a_library_may_have_told_it_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "vm")
    clean = anonymous.scrubbed({"reason": "vm: connection refused by vmx", "virtualization": "vm"})
    assert clean == {
        "reason": f"{anonymous.pseudonym('vm', 'node')}: connection refused by vmx",
        "virtualization": "vm",
    }


def test_what_names_nothing_is_left_as_it_is() -> None:
    value = {"a": "text", "serial": None, "b": [1, 2], "reason": None}
    assert anonymous.scrubbed(value) == value


@pytest.mark.parametrize("serial", ["0", 0, "", "N/A", "00000000", "7"])
def test_what_is_no_serial_replaces_nothing(serial: object) -> None:
    value = {"serial": serial, "workload": "matmul/bf16/4096", "started_at": "2026-11-22T07:00:00"}
    assert anonymous.scrubbed(value) == value


def test_a_serial_is_replaced_as_a_word_and_not_inside_of_one() -> None:
    clean = anonymous.scrubbed({"serial": "16542", "text": "16542 and 165420 and x16542"})
    assert clean["text"] == f"{anonymous.pseudonym('16542')} and 165420 and x16542"


def test_the_beginning_of_a_uuid_is_one_too() -> None:
    assert anonymous.scrubbed("GPU-8932f937,MIG-8932f937-0d72") == ",".join(
        map(anonymous.pseudonym, ("GPU-8932f937", "MIG-8932f937-0d72"))
    )
    assert anonymous.scrubbed("GPU-accelerated") == "GPU-accelerated"


def test_what_is_hidden_already_stays_as_it_is() -> None:
    once = anonymous.scrubbed({"serial": "1654223012345", "uuid": UUID})
    assert anonymous.scrubbed(once) == once
