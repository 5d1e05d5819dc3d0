"""Criteria files: what they mean, and what is said of every wrong key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import errors, peaks, registry, units
from bench.criteria import facts
from bench.criteria import file as files
from bench.criteria.model import KINDS, Answers, Criteria, Inventory, Limit, Performance, Soak, Uniformity
from bench.errors import UsageError
from bench.report import criteria as words
from tests.checkout import ROOT

HEAD = 'format = 1\ntitle = "a test"\ndevice = "cuda"\n'
FLOOR = '[[performance]]\nid = "bf16"\nworkload = "matmul/bf16/8192"\nat_least = 755\nunit = "TFLOP/s"\nsource = "x"\n'
MODEL = '[[inventory]]\nid = "model"\nwhat = "device_name"\nequal = "NVIDIA H200"\nsource = "x"\n'
MEMORY = '[[inventory]]\nid = "memory"\nwhat = "memory"\nat_least = 2\nunit = "TiB"\nsource = "x"\n'
DRIVER = '[[inventory]]\nid = "driver"\nwhat = "driver"\nat_least = "570"\nat_most = "580.95"\nsource = "x"\n'
PACE = FLOOR.replace("at_least = 755", 'metric = "tpot_s"\nat_most = 7').replace("TFLOP/s", "ms")
COPY = FLOOR.replace("matmul/bf16/8192", "roof/memory/copy").replace("TFLOP/s", "TB/s")
ALIKE = '[[uniformity]]\nid = "alike"\nworkload = "matmul/bf16/8192"\nat_least = 0.9\nsource = "x"\n'
XID = '[[state]]\nid = "xid"\ncolumn = "xids"\nat_most = 0\nsource = "x"\n'
LOCKED = '[[state]]\nid = "locked"\ncolumn = "clocks_locked"\nequal = false\nsource = "x"\n'
REASONS = '[[state]]\nid = "reasons"\ncolumn = "throttle_reasons"\nnone_of = ["hw_slowdown"]\nsource = "x"\n'
ANSWERS = '[[answers]]\nid = "answers"\nsource = "x"\nworkloads = ["matmul/bf16/4096"]\n'
SOAK = '[[soak]]\nid = "burn-in"\nworkload = "soak/64/mib1/tiny"\nhours = 24\nsource = "x"\n'


def loaded(tmp_path: Path, text: str) -> Criteria:
    path = tmp_path / "contract.toml"
    path.write_text(text, encoding="utf-8")
    return files.load(str(path))


def test_a_file_means_what_it_says(tmp_path: Path) -> None:
    text = HEAD + "confidence = 0.99\nlooks = [3, 6]\n" + FLOOR + MODEL + MEMORY + DRIVER + ALIKE + ANSWERS
    found = loaded(tmp_path, text)
    assert (found.title, found.device, found.confidence, found.looks) == ("a test", "cuda", 0.99, (3, 6))
    by_id = {one.id: one for one in found.criteria}
    assert by_id["bf16"] == Performance("bf16", Limit(755e12), "x", workload="matmul/bf16/8192", unit="FLOP/s")
    assert by_id["model"] == Inventory("model", Limit(equal="NVIDIA H200"), "x", what="device_name")
    assert by_id["memory"].limit == Limit(2.0 * 1024**4)
    assert by_id["driver"].limit == Limit("570", "580.95")
    assert by_id["alike"] == Uniformity("alike", Limit(0.9), "x", workload="matmul/bf16/8192")
    assert by_id["answers"] == Answers("answers", Limit(at_most=0), "x", workloads=("matmul/bf16/4096",))
    assert found.workloads == ("matmul/bf16/8192", "matmul/bf16/4096")


def test_a_soak_is_hours_of_a_load_and_what_is_measured_after_it_knows_nothing_of_it(tmp_path: Path) -> None:
    found = loaded(tmp_path, HEAD + FLOOR + SOAK + "cool_down_minutes = 2\n")
    assert found.soak == Soak("burn-in", Limit(24.0), "x", workload="soak/64/mib1/tiny", cool_down_minutes=2.0)
    assert found.workloads == ("matmul/bf16/8192",)
    assert words.sentence(found.soak, "cuda") == (
        "Before all else, soak/64/mib1/tiny loads each NVIDIA GPU for at least 24 h, and no answer may be wrong."
    )


def test_confidence_and_looks_may_be_left_out(tmp_path: Path) -> None:
    found = loaded(tmp_path, HEAD + XID)
    assert (found.confidence, found.looks) == (0.95, (5, 8, 12))


@pytest.mark.parametrize(
    ("limit", "value", "holds"),
    [
        (Limit("570"), "570.86.15", True),
        (Limit("570.86"), "570.9", False),
        (Limit(at_most="580"), "580.95.05", True),
        (Limit(at_most="580.95"), "580.105.08", False),
        (Limit(1, 3), 3, True),
        (Limit(1, 3), 3.1, False),
        (Limit(1), float("nan"), False),
        (Limit(at_most=1), float("nan"), False),
        (Limit(equal=False), False, True),
        (Limit(one_of=("a", "b")), "c", False),
        (Limit(none_of=("a", "b")), ["c"], True),
        (Limit(none_of=("a", "b")), ["c", "a"], False),
    ],
)
def test_a_limit_holds_or_does_not(limit: Limit, value: object, holds: bool) -> None:
    assert limit.holds(value) is holds


BAD = [
    # the file
    (XID, "'format' is missing; this vnbench reads format 1"),
    (HEAD.replace("1", "2") + XID, "'format' is 2; this vnbench reads format 1"),
    (HEAD.replace("1", "true") + XID, "'format' is True"),
    (HEAD.replace('title = "a test"', "") + XID, "'title' is missing"),
    (HEAD.replace('"cuda"', '"fake"') + XID, "'device' is 'fake'; it is the kind that is judged: cuda or cpu"),
    (HEAD + "hours = 24\n" + XID, "'hours' is not a key here; there are: format, title"),
    (HEAD, "'inventory, performance, uniformity, state, answers, soak' are all missing"),
    (HEAD + "state = 3", "'state' is a list of tables: write [[state]]"),
    (HEAD + "[state]\nid = 1", "'state' is a list of tables: write [[state]]"),
    (HEAD + XID + XID, "'id' 'xid' is there twice"),
    (HEAD + "confidence = 1\n" + XID, "'confidence' is 1; it must be from 0.5 to 0.9999"),
    (HEAD + "confidence = nan\n" + XID, "'confidence' is nan"),
    (HEAD + "looks = [2, 5]\n" + XID, "'looks' is [2, 5]: looks rise from at least 3 replicates"),
    (HEAD + "looks = [5, 5]\n" + XID, "'looks' is [5, 5]: looks rise"),
    (HEAD + "looks = []\n" + XID, "'looks' is []"),
    (HEAD + "looks = [5, 8.0]\n" + XID, "'looks' is [5, 8.0]; it lists numbers of replicates"),
    (HEAD + "looks = [5, 1000]\n" + XID, "'looks' is [5, 1000]; it lists numbers of replicates up to 200"),
    (HEAD + "[[state]\n", "Expected"),
    (HEAD + SOAK + SOAK.replace("burn-in", "again"), "'soak' is there twice; a node is soaked once"),
    # a soak
    (HEAD + SOAK.replace("hours = 24\n", ""), "[[soak]] burn-in: 'hours' is missing"),
    (HEAD + SOAK.replace("24", "0"), "[[soak]] burn-in: 'hours' is 0; it is a number from 1e-06 to 168"),
    (HEAD + SOAK.replace("24", '"24h"'), "[[soak]] burn-in: 'hours' is '24h'; it is a number"),
    (HEAD + SOAK.replace("24", "true"), "[[soak]] burn-in: 'hours' is True; it is a number"),
    (HEAD + SOAK + "cool_down_minutes = 61\n", "'cool_down_minutes' is 61; it is a number from 0 to 60"),
    (HEAD + SOAK + "at_least = 1\n", "[[soak]] burn-in: 'at_least' is not a key here"),
    (HEAD + SOAK.replace("soak/64", "suds/64"), "[[soak]] burn-in: 'workload' no workload or suite 'suds/64"),
    # what all have
    (HEAD + XID.replace('id = "xid"\n', ""), "[[state]] number 1: 'id' is missing"),
    (HEAD + XID.replace('"xid"', '"X I D"'), "[[state]] number 1: 'id' is 'X I D'; it is up to 40 of"),
    (HEAD + XID.replace('source = "x"\n', ""), "[[state]] xid: 'source' is missing"),
    (HEAD + XID.replace('"x"', '" "'), "[[state]] xid: 'source' is ' '; it must be a text"),
    (HEAD + XID.replace('"x"', '"\\u001b[31m"'), "[[state]] xid: 'source' is '\\x1b[31m'; it must be a text"),
    (HEAD + XID + "workload = 3\n", "[[state]] xid: 'workload' is not a key here; there are: id, source, note, column"),
    (HEAD + XID.replace("at_most = 0\n", ""), "[[state]] xid: 'at_most' is missing: the limit"),
    (HEAD + XID.replace("= 0", '= "none"'), "[[state]] xid: 'at_most' is 'none'; it must be a finite number"),
    (HEAD + XID.replace("= 0", "= true"), "[[state]] xid: 'at_most' is True; it must be a finite number"),
    (HEAD + XID.replace("= 0", "= inf"), "[[state]] xid: 'at_most' is inf; it must be a finite number"),
    (HEAD + XID.replace("= 0", "= 1" + "0" * 400), "[[state]] xid: 'at_most' is 1000"),
    # inventory
    (HEAD + MODEL.replace("device_name", "colour"), "[[inventory]] model: 'what' is 'colour'; there are: devices, "),
    (HEAD + MODEL.replace('"NVIDIA H200"', "8"), "[[inventory]] model: 'equal' is 8; it must be a text"),
    (HEAD + MODEL.replace("equal", "at_least"), "'at_least' is no limit of this; there are: equal, one_of"),
    (HEAD + MODEL + 'one_of = ["a"]\n', "'one_of' cannot stand beside 'equal'"),
    (HEAD + MODEL.replace('equal = "NVIDIA H200"', "one_of = []"), "'one_of' is []; it is a list of texts"),
    (HEAD + MEMORY.replace('unit = "TiB"\n', ""), "[[inventory]] memory: 'unit' is missing: GB or GiB"),
    (HEAD + MEMORY.replace("TiB", "s"), "[[inventory]] memory: 'unit' is 's'; the value is in B"),
    (HEAD + MEMORY.replace("TiB", "tons"), "[[inventory]] memory: 'unit' 'tons' is no unit"),
    (HEAD + MEMORY + "at_most = 1\n", "[[inventory]] memory: 'at_least' is above 'at_most'"),
    (HEAD + DRIVER.replace('"570"', '"r570"'), "[[inventory]] driver: 'at_least' is 'r570'; it must be a version"),
    (HEAD + DRIVER.replace('"570"', "570"), "[[inventory]] driver: 'at_least' is 570; it must be a text"),
    (HEAD + DRIVER.replace('"570"', '"590"'), "[[inventory]] driver: 'at_least' is above 'at_most'"),
    # performance
    (HEAD + FLOOR.replace("matmul/", "matmull/"), "[[performance]] bf16: 'workload' no workload or suite 'matmull"),
    (HEAD + FLOOR.replace("8192", "*"), "[[performance]] bf16: 'workload' 'matmul/bf16/*': '*' is no shape"),
    (HEAD + FLOOR.replace('unit = "TFLOP/s"\n', ""), "[[performance]] bf16: 'unit' is missing"),
    (HEAD + FLOOR.replace("TFLOP/s", "GB/s"), "'unit' is 'GB/s'; the figure of matmul/bf16/8192 is in FLOP/s"),
    (HEAD + FLOOR.replace("755", "0"), "[[performance]] bf16: 'at_least' is 0"),
    (HEAD + FLOOR.replace("755", "-1"), "[[performance]] bf16: 'at_least' is -1"),
    (HEAD + FLOOR + "at_most = 900\n", "'at_most' is no limit of this; there are: at_least"),
    (HEAD + FLOOR + 'metric = "tpot_s"\n', "'unit' is 'TFLOP/s'; tpot_s of matmul/bf16/8192 is in s"),
    (HEAD + PACE.replace("at_most", "at_least"), "'at_least' is no limit of this; there are: at_most"),
    (HEAD + PACE.replace("tpot_s", "prepare_s") + "at_least = 1\n", "'at_most' cannot stand beside 'at_least': write"),
    (HEAD + COPY.replace('unit = "TB/s"', 'of = "measured roof"'), "roof/memory/copy is held against no measured roof"),
    (HEAD + FLOOR + 'metric = "speed"\n', "[[performance]] bf16: 'metric' is 'speed'; there are: "),
    (HEAD + FLOOR + 'of = "datasheet"\n', "'of' makes the limit a fraction of a roof"),
    (HEAD + FLOOR.replace('unit = "TFLOP/s"', 'of = "ceiling"'), "'of' is 'ceiling'; there are: measured roof, data"),
    # the others
    (HEAD + ALIKE.replace("0.9", "1.0"), "[[uniformity]] alike: 'at_least' must be below 1"),
    (HEAD + ALIKE.replace("matmul/bf16/8192", "collective/all-reduce/w2/mib1"), "takes several devices together"),
    (HEAD + XID.replace("xids", "value"), "[[state]] xid: 'column' is 'value'; there are: throttle_s, "),
    (HEAD + XID.replace("at_most", "at_least"), "[[state]] xid: 'at_least' is no limit of this; there are: at_most"),
    (HEAD + LOCKED.replace("false", "true"), "[[state]] locked: 'equal' is true; a state can only be demanded"),
    (HEAD + LOCKED.replace("false", "0"), "[[state]] locked: 'equal' is 0; it must be true or false"),
    (HEAD + REASONS.replace('["hw_slowdown"]', '"hw_slowdown"'), "'none_of' is 'hw_slowdown'; it is a list of texts"),
    (HEAD + ANSWERS.replace("4096", "x"), "[[answers]] answers: 'workloads' 'matmul/bf16/x'"),
    (HEAD + ANSWERS + "golden = 3\n", "[[answers]] answers: 'golden' is a table of SHA-256"),
    (HEAD + ANSWERS + 'golden = {a = "5f"}\n', "[[answers]] answers: 'golden' is a table of SHA-256"),
    (HEAD + ANSWERS.replace('["matmul/bf16/4096"]', "3"), "[[answers]] answers: 'workloads' is 3; it is a list"),
    (HEAD + ANSWERS + "at_most = 1\n", "[[answers]] answers: 'at_most' is not a key here"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[expected[:60] for _, expected in BAD])
def test_what_is_wrong_is_one_line_with_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "contract.toml"))
    assert expected in message
    assert "\n" not in message and len(message) < 1500
    assert caught.value.exit_code == errors.USAGE


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    for name, expected in [("none.toml", "No such file"), ("latin.toml", "utf-8"), ("deep.toml", "too deep")]:
        with pytest.raises(UsageError, match=expected) as caught:
            files.load(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(UsageError, match="one of: a100-sxm, b200, cpu-node, h100-sxm, h200-sxm"):
        files.load("h300")


# ---------------------------------------------------------------- the ready ones


@pytest.mark.parametrize("name", files.names())
def test_the_ready_files_are_sound_and_explained(name: str) -> None:
    found = files.load(name)
    for one in found.criteria:
        assert one.source
        sentence = words.sentence(one, found.device)
        assert sentence.endswith(".") and "None" not in sentence


@pytest.mark.parametrize("name", [name for name in files.names() if name != "cpu-node"])
def test_a_floor_is_below_the_datasheet_and_far_above_half_of_it(name: str) -> None:
    found = files.load(name)
    (model,) = (one for one in found.criteria if isinstance(one, Inventory) and one.what == "device_name")
    floors = [one for one in found.criteria if isinstance(one, Performance)]
    checked = 0
    for one in floors:
        workload = registry.resolve(one.workload)
        for roof in (*workload.kernel.roofs(workload.params, "cuda"), one.workload.partition("@")[0]):
            peak = peaks.peak(str(model.limit.equal), roof)
            if peak is not None:
                assert 0.6 * peak.value < float(one.limit.at_least or 0) < peak.value, one.id
                checked += 1
    assert checked


def test_those_of_a_cpu_node_hold_no_absolute_figure() -> None:
    found = files.load("cpu-node")
    assert {one.of for one in found.criteria if isinstance(one, Performance)} == {"measured roof"}


def test_known_metrics_are_those_that_kernels_give() -> None:
    text = "".join(path.read_text() for folder in ("kernels", "bench") for path in (ROOT / folder).glob("*.py"))
    literal = re.findall(r'Metric\("(\w+)", .*?, "([^"]*)", "(higher|lower)"\)', text)
    unjudged = {"read_ahead_kb", "resident_fraction_before", "search_rate"}
    assert len(literal) > 15
    for name, unit, better in literal:
        if name not in unjudged:
            limits = ("at_least",) if better == "higher" else ("at_most",)
            assert facts.METRICS[name] == facts.MetricFigure(units.base_unit(unit)[1], limits), name
    for name in facts.METRICS:
        assert name in text or name.removesuffix("_s") in text, name


# ---------------------------------------------------------------- the documentation


def test_the_example_of_the_documentation_is_one(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "acceptance.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", document, flags=re.DOTALL)
    found = loaded(tmp_path, example)
    assert {type(one) for one in found.criteria} == set(KINDS.values())


def test_the_documentation_has_every_fact_state_and_metric() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "acceptance.md").read_text(), flags=re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert documented >= {*facts.FACTS, *facts.STATES, *KINDS}
