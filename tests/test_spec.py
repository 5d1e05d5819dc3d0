"""``bench.spec``: names one-to-one with specs, and ids that hold across processes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.spec import (
    ID_LENGTH,
    Parameter,
    Spec,
    axis,
    canonical_json,
    content_id,
    option,
    parameters,
    parse_params,
    pattern,
    spec_of,
    workload_name,
    written,
)


def _shape(text: str) -> tuple[int, ...]:
    shape = tuple(int(part) for part in text.split("x"))
    if _shown_shape(shape) != text or min(shape) < 1:
        raise ValueError(text)
    return shape


def _shown_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Multiply:
    dtype: str = axis(choices=("fp32", "bf16"))
    shape: tuple[int, ...] = axis(parse=_shape, show=_shown_shape, hint="MxNxK")
    backend: str = option("torch", choices=("torch", "numpy"))
    splits: int = option(1)
    note: str = option("none")


@dataclass(frozen=True)
class Decode:
    model: str = axis(choices=("tiny", "small"))
    batch: int = axis(prefix="b")
    context: int = axis(prefix="ctx")
    steps: int = option(32)


NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8)
MULTIPLIES = st.builds(
    Multiply,
    dtype=st.sampled_from(["fp32", "bf16"]),
    shape=st.lists(st.integers(1, 10**6), min_size=1, max_size=3).map(tuple),
    backend=st.sampled_from(["torch", "numpy"]),
    splits=st.integers(0, 100),
    note=NAMES,
)
DECODES = st.builds(
    Decode,
    model=st.sampled_from(["tiny", "small"]),
    batch=st.integers(1, 10**6),
    context=st.integers(1, 10**6),
    steps=st.integers(0, 10**6),
)


@given(MULTIPLIES | DECODES)
def test_name_and_params_are_one_to_one(params: Any) -> None:
    name = workload_name("family/kernel", params)
    assert parse_params("family/kernel", type(params), name) == params


@given(MULTIPLIES, MULTIPLIES)
def test_different_params_have_different_names_and_ids(a: Multiply, b: Multiply) -> None:
    assert (workload_name("k", a) == workload_name("k", b)) == (a == b)
    assert (spec_of("k", 1, a).spec_id == spec_of("k", 1, b).spec_id) == (a == b)


def test_names_as_documented() -> None:
    assert workload_name("decode", Decode("tiny", 1, 512)) == "decode/tiny/b1/ctx512"
    assert workload_name("decode", Decode("tiny", 1, 512, steps=64)) == "decode/tiny/b1/ctx512@steps=64"
    assert (
        workload_name("matmul", Multiply("fp32", (8, 4, 2), "numpy", 2)) == "matmul/fp32/8x4x2@backend=numpy,splits=2"
    )
    assert pattern("decode", Decode) == "decode/<model>/<batch>/<context>[@steps=…]"


@pytest.mark.parametrize(
    "name",
    [
        "decode/tiny/b1",
        "decode/tiny/b1/ctx512/more",
        "decode/huge/b1/ctx512",
        "decode/tiny/1/ctx512",
        "decode/tiny/b+1/ctx512",
        "decode/tiny/b01/ctx512",
        "decode/tiny/b1_0/ctx512",
        "decode/tiny/b0/ctx512",
        "decode/tiny/b-1/ctx512",
        "decode/tiny/b /ctx512",
        "decode/tiny/b١/ctx512",
        "decode/tiny/b1/ctx512@steps=-1",
        "decode/tiny/b1/ctx512@steps=064",
        "decode/tiny/b1/ctx512@steps",
        "decode/tiny/b1/ctx512@speed=1",
        "decode/tiny/b1/ctx512@steps=1,steps=2",
        "decode/tiny/b1/ctx512@batch=2",
    ],
)
def test_other_spellings_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse_params("decode", Decode, name)


def test_defaults_written_out_and_other_orders_mean_the_canonical_name() -> None:
    loose = "matmul/fp32/8x8@note=none,splits=2,backend=numpy"
    assert workload_name("matmul", parse_params("matmul", Multiply, loose)) == "matmul/fp32/8x8@backend=numpy,splits=2"


@dataclass(frozen=True)
class Copy:
    size: int = axis(prefix="n")
    path: str = axis(parse=str, rest=True)
    times: int = option(1)


PARTS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.builds(Copy, size=st.integers(1, 99), path=PARTS, times=st.integers(0, 9)))
def test_a_last_axis_may_take_the_rest_of_the_name(params: Copy) -> None:
    name = workload_name("copy", params)
    assert name.startswith(f"copy/n{params.size}/{params.path}")
    assert parse_params("copy", Copy, name) == params


@pytest.mark.parametrize("name", ["copy/n1", "copy", "copy/n1/@times=2", "copy/path/n1"])
def test_the_axes_before_the_rest_and_the_rest_itself_are_asked_for(name: str) -> None:
    with pytest.raises(UsageError):
        parse_params("copy", Copy, name)


def test_without_the_rest_a_surplus_axis_is_refused() -> None:
    with pytest.raises(UsageError, match="has 3 of 2 axes"):
        parse_params("matmul", Multiply, "matmul/fp32/8/8")


def test_refusal_says_what_would_be_taken() -> None:
    with pytest.raises(UsageError, match=r"'b0' is no batch.*b<number>"):
        parse_params("decode", Decode, "decode/tiny/b0/ctx512")


def test_columns_are_lifted_out_of_the_params() -> None:
    spec = spec_of("matmul", 3, Multiply("bf16", (2, 2), "numpy"))
    assert (spec.dtype, spec.backend, spec.cache, spec.version) == ("bf16", "numpy", None, 3)
    assert spec.params == {"shape": (2, 2), "splits": 1, "note": "none"}


# Literal ids: a change of the hashing would make every stored result incomparable.
SPEC = Spec("decode", 1, {"model": "tiny", "batch": 1, "ratio": 0.5, "shape": (2, 3)}, "bf16", "torch", "cold", 0)
GOLDEN_ID = "9cac2275b58d119f"


def test_golden_id() -> None:
    assert SPEC.spec_id == GOLDEN_ID
    assert len(GOLDEN_ID) == ID_LENGTH


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_id_is_the_same_in_another_process(hash_seed: str) -> None:
    code = f"from bench.spec import Spec; print({SPEC!r}.spec_id)"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True, text=True)
    assert printed.stdout.strip() == GOLDEN_ID


@given(st.permutations(sorted(SPEC.params)))
def test_id_does_not_depend_on_the_order_of_params(keys: list[str]) -> None:
    shuffled = dataclasses.replace(SPEC, params={key: SPEC.params[key] for key in keys})
    assert shuffled.spec_id == GOLDEN_ID


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Spec)])
def test_every_field_is_hashed(field: str) -> None:
    other: Any = {"params": {"model": "tiny"}, "version": 2, "seed": 1}.get(field, "other")
    assert dataclasses.replace(SPEC, **{field: other}).spec_id != GOLDEN_ID


def test_canonical_json_is_plain() -> None:
    assert canonical_json({"b": [1, None, True], "a": "đ"}) == '{"a":"\\u0111","b":[1,null,true]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


@given(st.dictionaries(NAMES, st.integers() | NAMES), st.dictionaries(NAMES, st.integers() | NAMES))
def test_content_id_tells_values_apart(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (content_id(a) == content_id(b)) == (a == b)


def test_an_option_that_is_added_later_changes_no_spec_id() -> None:
    @dataclass(frozen=True)
    class Before:
        n: int = axis()
        steps: int = option(32)

    @dataclass(frozen=True)
    class After:
        n: int = axis()
        steps: int = option(32)
        mode: str = option("eager", choices=("eager", "graph"), added_later=True)

    before, after = spec_of("k", 1, Before(4)), spec_of("k", 1, After(4))
    assert after == before
    assert spec_of("k", 1, After(4, mode="graph")).params == {"n": 4, "steps": 32, "mode": "graph"}


# ---------------------------------------------------------------- what people are told of them


def test_the_parameters_of_a_kernel_are_its_axes_and_options_in_the_order_of_a_name() -> None:
    @dataclass(frozen=True)
    class Searched:
        n: int = axis(prefix="n")
        limit: int | None = option(None, parse=int, hint="<number>")

    assert parameters(Multiply) == (
        Parameter("dtype", True, "fp32 | bf16", None),
        Parameter("shape", True, "MxNxK", None),
        Parameter("backend", False, "torch | numpy", "torch"),
        Parameter("splits", False, "<number>", "1"),
        Parameter("note", False, "<text>", "none"),
    )
    assert parameters(Searched) == (
        Parameter("n", True, "n<number>", None),
        Parameter("limit", False, "<number>", None),
    )
    assert written(Searched(3)) == {"n": "n3"}
    assert written(Searched(3, 7)) == {"n": "n3", "limit": "7"}


@given(MULTIPLIES)
def test_what_is_written_makes_the_name_and_the_name_makes_it(params: Multiply) -> None:
    texts = written(params)
    name = f"multiply/{texts.pop('dtype')}/{texts.pop('shape')}@" + ",".join(f"{key}={texts[key]}" for key in texts)
    assert parse_params("multiply", Multiply, name) == params
