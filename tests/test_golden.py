"""Every listed workload keeps its ``spec_id``: who changes the work has to raise the kernel's version.

After a deliberate change, with the version raised: ``python -m tests.test_golden`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import registry

GOLDEN = Path(__file__).with_name("golden_spec_ids.json")


def listed() -> dict[str, str]:
    return {name: registry.resolve(name).spec.spec_id for name in sorted(registry.catalogue())}


def test_every_listed_workload_has_its_golden_id() -> None:
    assert listed() == json.loads(GOLDEN.read_text())


def test_ids_are_all_different() -> None:
    ids = listed()
    assert len(set(ids.values())) == len(ids)


@pytest.mark.parametrize("name", sorted(registry.catalogue()))
def test_listed_names_are_canonical(name: str) -> None:
    assert registry.resolve(name).name == name


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(listed(), indent=1) + "\n")
