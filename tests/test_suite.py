"""``bench.suite``: a wrong suite file is one line with file, line and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import errors, registry, suite
from bench.errors import BadSuite, UnknownWorkload, UsageError
from bench.types import Policy
from tests.small_kernel import KERNELS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "kernels", lambda: KERNELS)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


# ---------------------------------------------------------------- those that come with vnbench


@pytest.mark.parametrize("name", suite.names())
def test_a_suite_of_vnbench_loads(name: str) -> None:
    loaded = suite.load(name)
    assert loaded.name == name
    assert loaded.description
    for kind in ("cpu", "cuda", "fake"):
        assert loaded.on(kind)
        assert registry.with_roofs(loaded.on(kind), kind)


def test_the_suites_repeat_as_promised() -> None:
    assert {name: suite.load(name).replicates for name in ("quick", "standard")} == {"quick": 5, "standard": 5}
    assert suite.DEFAULT in suite.names()


# ---------------------------------------------------------------- a file


WHOLE = """
description = "what our models need"
replicates = 4
timeout_s = 7
workloads = ["small/*", "small/n1"]

[cpu]
workloads = ["roof/memory/copy", "small/n2"]

[cuda]
workloads = ["roof/compute/bf16"]

[policy]
warmup_rule = "count"
max_samples = 9
"""


@pytest.mark.usefixtures("small")
def test_every_key_is_read(tmp_path: Path) -> None:
    loaded = suite.load(written(tmp_path, WHOLE))
    assert (loaded.name, loaded.description) == ("mine", "what our models need")
    assert (loaded.replicates, loaded.timeout_s) == (4, 7)
    assert loaded.policy == Policy(warmup_rule="count", max_samples=9)
    everywhere = ("small/n1", "small/n2", "small/n2@variant=b")
    assert loaded.on("cpu") == loaded.on("fake") == (*everywhere, "roof/memory/copy")
    assert loaded.on("cuda") == (*everywhere, "roof/compute/bf16")


@pytest.mark.usefixtures("small")
def test_a_workload_is_enough(tmp_path: Path) -> None:
    loaded = suite.load(written(tmp_path, 'cpu.workloads = ["small/n1"]'))
    assert loaded.on("cpu") == ("small/n1",)
    assert loaded.on("cuda") == ()
    assert loaded.policy == Policy()


@pytest.mark.usefixtures("small")
def test_integers_and_floats_make_the_same_policy(tmp_path: Path) -> None:
    text = 'workloads = ["small/n1"]\n[policy]\nmax_s = {}\nwarmup_max_s = {}\n'
    whole = suite.load(written(tmp_path, text.format(2, 3))).policy
    point = suite.load(written(tmp_path, text.format(2.0, 3.0))).policy
    assert whole.policy_id == point.policy_id
    assert whole.policy_id != Policy().policy_id
    assert whole.policy_id == Policy(max_s=2.0, warmup_max_s=3.0).policy_id


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # keys
        ('workload = ["small/n1"]', 1, "'workload' is not a key here; there are: description, replicates"),
        ('workloads = ["small/n1"]\n[gpu]\nworkloads = []', 2, "'gpu' is not a key"),
        (
            'workloads = ["small/n1"]\n\n[cpu]\nreplicates = 2',
            4,
            "'replicates' is not a key here; there are: work",
        ),
        ('workloads = ["small/n1"]\n[policy]\nmax_samples = 3\nmax = 1', 4, "'max' is not a key here"),
        ("replicates = 2\n[policy]\nreplicates = 3", 3, "'replicates' is not a key here"),
        # types
        ('workloads = "small/n1"', 1, "'workloads' has a value of the wrong kind: 'small/n1'"),
        ('workloads = [\n  "small/n1",\n  3,\n]', 1, "'workloads' 3 is not a workload's name"),
        ('replicates = 2.5\nworkloads = ["small/n1"]', 1, "'replicates' has a value of the wrong kind: 2.5"),
        ('\nreplicates = true\nworkloads = ["small/n1"]', 2, "'replicates' has a value of the wrong kind: True"),
        ('timeout_s = "60"\nworkloads = ["small/n1"]', 1, "'timeout_s' has a value of the wrong kind: '60'"),
        ('description = 3\nworkloads = ["small/n1"]', 1, "'description' has a value of the wrong kind: 3"),
        ('policy = "mser"\nworkloads = ["small/n1"]', 1, "'policy' has a value of the wrong kind"),
        ('workloads = ["small/n1"]\ncuda = ["small/n1"]', 2, "'cuda' has a value of the wrong kind"),
        ('workloads = ["small/n1"]\n[cpu]\nworkloads = 1', 3, "'workloads' has a value of the wrong kind: 1"),
        ('workloads = ["small/n1"]\n[policy]\nmax_samples = 3\nmax_s = "1"', 4, "'max_s' has a value of the wrong"),
        ('workloads = ["small/n1"]\n[policy]\nmin_samples = 5.0', 3, "'min_samples' has a value of the wrong kind"),
        ('workloads = ["small/n1"]\n[policy]\nwarmup_rule = 1', 3, "'warmup_rule' has a value of the wrong kind"),
        # values
        ('replicates = 0\nworkloads = ["small/n1"]', 1, "'replicates' must be above zero"),
        ('timeout_s = -1\nworkloads = ["small/n1"]', 1, "'timeout_s' must be above zero"),
        ('timeout_s = inf\nworkloads = ["small/n1"]', 1, "'timeout_s' must be above zero and finite"),
        ('workloads = ["small/n1"]\n[policy]\nwarmup_max_s = 1\nmax_s = 0', 4, "'max_s' must be above zero"),
        ('workloads = ["small/n1"]\n[policy]\nmax_s = nan', 3, "'max_s' must be above zero and finite"),
        ('workloads = ["small/n1"]\npolicy = {max_samples = -1}', 2, "'max_samples' must be above zero"),
        ('workloads = ["small/n1"]\npolicy.max_samples = -1', 2, "'max_samples' must be above zero"),
        ('workloads = ["small/n1"]\n[policy]\nwarmup_rule = "mean"', 3, "'mean' is no rule; there are: mser, count"),
        # workloads
        ("", 1, "'workloads' names no workload"),
        ("workloads = []\n[cpu]\nworkloads = []", 1, "'workloads' names no workload"),
        ('workloads = [\n  "small/n1",\n  "smal/n1",\n]', 3, "no workload or suite 'smal/n1'. Nearest: small/n1"),
        ('workloads = [\n  "small/n10",\n  "small/n",\n]', 3, "'n' is no size"),
        ('workloads = ["small/n1"]\n[cuda]\nworkloads = ["large/*"]', 3, "no workload or suite 'large/*'"),
        # TOML itself
        ('workloads = ["small/n1"\nreplicates = 2', 2, "Unclosed array"),
        ("replicates 2", 1, "Expected '='"),
        ('replicates = 2\nreplicates = 3\nworkloads = ["small/n1"]', 2, "Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadSuite) as caught:
        suite.load(path)
    message = str(caught.value)
    assert message.startswith(path)
    assert re.findall(r"line (\d+)", message)[0] == str(line), message
    assert words in message
    assert "\n" not in message
    assert caught.value.exit_code == errors.USAGE


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9t\xe9"')
    (tmp_path / "folder.toml").mkdir()
    for name, words in [("none.toml", "No such file"), ("latin.toml", "utf-8"), ("folder.toml", "directory")]:
        with pytest.raises(BadSuite, match=words) as caught:
            suite.load(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)


# ---------------------------------------------------------------- what a command line chooses


@pytest.mark.usefixtures("small")
def test_workloads_and_globs_make_a_suite_of_their_own() -> None:
    chosen = suite.choose(["small/n9", "small/n?", "small/n1"])
    assert chosen.name == "custom"
    assert chosen.on("cuda") == chosen.on("cpu") == ("small/n9", "small/n1", "small/n2")
    assert chosen.policy == Policy()


@pytest.mark.usefixtures("small")
def test_a_file_and_more_workloads(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    chosen = suite.choose(["small/n5", path, "small/n1"])
    assert chosen.name == "mine"
    assert chosen.workloads == ("small/n1", "small/n2", "small/n2@variant=b", "small/n5")
    assert chosen.replicates == 4


def test_nothing_chooses_the_default() -> None:
    assert suite.choose([]) == suite.load(suite.DEFAULT)


def test_a_name_chooses_that_suite() -> None:
    assert suite.choose(["smoke"]) == suite.load("smoke")


def test_two_suites_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two suites at once: smoke and other\.toml"):
        suite.choose(["smoke", "other.toml"])


@pytest.mark.usefixtures("small")
def test_what_is_neither_suite_nor_workload_is_refused() -> None:
    with pytest.raises(UnknownWorkload, match="no workload or suite 'quik'"):
        suite.choose(["quik"])


def test_a_misspelt_suite_is_told_the_nearest() -> None:
    with pytest.raises(UnknownWorkload, match="Nearest: quick"):
        suite.choose(["quik"])


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path, small: None) -> None:
    assert suite.load(written(tmp_path, "\ufeffreplicates = 4\nworkloads = ['small/n1']\n")).replicates == 4


@pytest.mark.parametrize(("value", "words"), [("[" * 5000, "nested too deep"), ("9" * 5000, "4300 digits")])
def test_what_is_beyond_all_measure_is_one_line(tmp_path: Path, value: str, words: str) -> None:
    with pytest.raises(BadSuite, match=words) as caught:
        suite.load(written(tmp_path, f"replicates = {value}"))
    assert "\n" not in str(caught.value)
