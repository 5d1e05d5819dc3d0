"""Every listed workload keeps its ``spec_id``: who changes the work has to raise the version of its kernel.

``python -m tests.test_golden`` freezes the ids of workloads that were added and of versions that were raised, and
forgets those of workloads that are listed no more. It does not freeze an id that changed under the same version.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pytest

from bench import registry

GOLDEN = Path(__file__).with_name("golden_spec_ids.json")
NOT_FROZEN = ("dataload/",)  # families that are still being made
WRITE = "python -m tests.test_golden"


class Frozen(TypedDict):
    """A kernel's version, and its workloads with their ids."""

    version: int
    workloads: dict[str, str]


Ids = dict[str, Frozen]  # by kernel


def listed() -> Ids:
    """The ids as they are now."""
    families = sorted(registry.families(), key=lambda family: family.kernel.name)
    return {
        one.kernel.name: {
            "version": one.kernel.version,
            "workloads": {workload.name: workload.spec.spec_id for workload in one.workloads},
        }
        for one in families
        if one.workloads and not one.kernel.name.startswith(NOT_FROZEN)
    }


def golden() -> Ids:
    found: Ids = json.loads(GOLDEN.read_text())
    return found


def changes(now: Ids, before: Ids) -> list[str]:
    """Work that is another under a version that is not: no writing of the file mends that."""
    return [
        f"the work of {name} changed; raise the version of kernel {kernel}"
        for kernel, name, spec_id in _each(now)
        if now[kernel]["version"] <= _version(before, kernel)
        if before[kernel]["workloads"].get(name, spec_id) != spec_id
    ]


def news(now: Ids, before: Ids) -> list[str]:
    """What may be meant, and is to be written by hand."""
    ids_now, ids_before = ({name: spec_id for _, name, spec_id in _each(ids)} for ids in (now, before))
    found = [f"{name} is listed and not frozen; if it is meant to be: {WRITE}" for name in ids_now.keys() - ids_before]
    found += [f"{name} is frozen and not listed; if it is meant to go: {WRITE}" for name in ids_before.keys() - ids_now]
    found += [
        f"{name} has the id of version {now[kernel]['version']} of kernel {kernel}; to freeze it: {WRITE}"
        for kernel, name, spec_id in _each(now)
        if ids_before.get(name, spec_id) != spec_id and now[kernel]["version"] > _version(before, kernel)
    ]
    return sorted(found)


def _version(ids: Ids, kernel: str) -> int:
    return ids[kernel]["version"] if kernel in ids else 0


def _each(ids: Ids) -> Iterator[tuple[str, str, str]]:
    for kernel, frozen in ids.items():
        for name, spec_id in frozen["workloads"].items():
            yield kernel, name, spec_id


def test_every_listed_workload_has_its_golden_id() -> None:
    found = [*changes(listed(), golden()), *news(listed(), golden())]
    assert not found, "\n".join(found)


def test_all_families_are_frozen_but_those_still_being_made() -> None:
    families = {family.kernel.name for family in registry.families() if family.workloads}
    assert {name for name in families if not name.startswith("dataload/")} == set(golden())


# ---------------------------------------------------------------- the test's own test

BEFORE: Ids = {
    "sum": {"version": 1, "workloads": {"sum/fp32/8": "aa", "sum/fp32/16": "bb"}},
    "roof/sum": {"version": 2, "workloads": {"roof/sum/fp32": "cc"}},
}


@pytest.fixture
def now() -> Ids:
    return copy.deepcopy(BEFORE)


def test_nothing_changed(now: Ids) -> None:
    assert changes(now, BEFORE) == news(now, BEFORE) == []


@pytest.mark.parametrize("version", [1, 0])
def test_an_id_that_changed_asks_for_a_version(now: Ids, version: int) -> None:
    now["sum"]["workloads"]["sum/fp32/16"] = "b2"
    now["sum"]["version"] = version
    assert changes(now, BEFORE) == ["the work of sum/fp32/16 changed; raise the version of kernel sum"]
    assert news(now, BEFORE) == []


def test_a_version_that_was_raised_is_to_be_frozen(now: Ids) -> None:
    now["roof/sum"] = {"version": 3, "workloads": {"roof/sum/fp32": "c3"}}
    assert changes(now, BEFORE) == []
    assert news(now, BEFORE) == [f"roof/sum/fp32 has the id of version 3 of kernel roof/sum; to freeze it: {WRITE}"]


def test_what_is_added_or_gone_says_what_to_run(now: Ids) -> None:
    del now["roof/sum"]
    now["copy"] = {"version": 1, "workloads": {"copy/8": "dd"}}
    assert changes(now, BEFORE) == []
    assert news(now, BEFORE) == [
        f"copy/8 is listed and not frozen; if it is meant to be: {WRITE}",
        f"roof/sum/fp32 is frozen and not listed; if it is meant to go: {WRITE}",
    ]


def main() -> None:
    """Write the file anew, unless that would hide a change."""
    now = listed()
    before = golden() if GOLDEN.exists() else {}
    if found := changes(now, before):
        sys.exit("\n".join(found))
    GOLDEN.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
