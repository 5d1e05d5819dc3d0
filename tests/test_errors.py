"""``bench.errors``: each branch's exit code, and which of several wins."""

from __future__ import annotations

import itertools
import signal

import pytest

from bench import errors
from bench.errors import Interrupted, UsageError, VnbenchError, worst


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.VnbenchError, 1),
        (errors.UsageError, 2),
        (errors.UnknownWorkload, 2),
        (errors.BadSuite, 2),
        (errors.ImpossibleDevice, 2),
        (errors.UnreadableResult, 2),
        (errors.ShadowedKernels, 2),
        (errors.UnfitMachine, 4),
        (errors.UnusableGpu, 4),
        (errors.MissingDevice, 5),
        (errors.BadSeal, 5),
        (errors.OutputNotWritable, 7),
    ],
)
def test_exit_codes(error: type[VnbenchError], code: int) -> None:
    assert error("what").exit_code == code


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_exit_as_a_shell_expects(signum: int, code: int) -> None:
    interrupted = Interrupted(signum, "stopped")
    assert interrupted.exit_code == code
    assert interrupted.signal_name == signal.Signals(signum).name


def test_message_holds_the_remedy() -> None:
    assert str(UsageError("no such thing", "Try this")) == "no such thing. Try this"
    assert str(UsageError("no such thing")) == "no such thing"


def test_unsupported_is_no_error_of_a_run() -> None:
    assert not issubclass(errors.Unsupported, VnbenchError)


def test_precedence_of_outcomes() -> None:
    order = (1, 7, 5, 3, 4, 6)
    for earlier, later in itertools.combinations(order, 2):
        assert worst([0, later, earlier]) == earlier
        assert worst([earlier, later, later]) == earlier


def test_nothing_wrong_is_zero() -> None:
    assert worst([]) == 0
    assert worst([0, 0]) == 0


def test_usage_alone_is_kept_and_yields_to_a_verdict() -> None:
    assert worst([0, 2]) == 2
    assert worst([2, 6]) == 6


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7])
def test_an_interrupt_comes_before_all(code: int) -> None:
    assert worst([code, 143]) == 143
    assert worst([code, 143, 130]) == 130
