"""Benchmarks are collected with ``--benchmark-only`` (``make benchmarks``) and not with the tests."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getoption("benchmark_only", default=False) else True
