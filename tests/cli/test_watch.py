"""``vnbench watch`` in a process of its own: on a terminal, in a pipe, with the fake NVML behind the real pynvml."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bench.telemetry.reading import Reading
from tests import nvml
from tests.checkout import PATIENCE_S, ROOT

WATCH = (sys.executable, "-m", "bench", "watch")
QUICK = ("--interval", "0.1")
HEADING = "time       device   MHz   W           °C (margin)  busy  held back by                     trouble"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def variables(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A user's environment: a terminal is what it says, and Python buffers what goes to a pipe."""
    others = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return {**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1", **(extra or {})}


def piped(*arguments: str, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WATCH, *arguments], cwd=ROOT, env=variables(extra), capture_output=True, text=True, timeout=120, check=False
    )


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*WATCH, *arguments], cwd=ROOT, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)  # a line that never comes is waited for without end
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def cells(line: str) -> list[str]:
    """A line in the columns of the heading."""
    begins = [HEADING.index(name) for name in ("time", "device", "MHz", "W ", "°C", "busy", "held back", "trouble")]
    return [line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], None], strict=True)]


# ---------------------------------------------------------------- in a pipe


def test_a_pipe_receives_aligned_lines_and_no_escape_codes() -> None:
    done = piped("--count", "3", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *lines = done.stdout.splitlines()
    assert heading == HEADING
    assert len(lines) == 3
    for line in lines:
        at, device, *_ = cells(line)
        assert re.fullmatch(r"\d\d:\d\d:\d\dZ", at)
        assert device == "cpu"
    assert "\x1b" not in done.stdout
    assert [cells(line)[5] == "–" for line in lines] == [True, False, False], "a share needs two readings"


def test_json_is_a_reading_a_line() -> None:
    done = piped("--count", "2", "--json", *QUICK)
    first, second = (Reading.from_json(json.loads(line)) for line in done.stdout.splitlines())
    assert (first.device, first.device_index) == ("cpu", 0)
    assert second.at_ns - first.at_ns > 0.05e9
    assert abs(second.at_ns - time.time_ns()) < PATIENCE_S * 1e9
    assert first.to_json() == json.loads(done.stdout.splitlines()[0])


def test_each_line_is_there_when_it_is_written() -> None:
    with started("--interval", "60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{HEADING}\n"
        assert cells(process.stdout.readline())[1] == "cpu"
        assert process.poll() is None


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_word(signum: signal.Signals, code: int) -> None:
    with started("--interval", "60") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signum)
        assert (process.wait(PATIENCE_S), process.stderr and process.stderr.read()) == (code, "")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_reader_that_has_had_enough_ends_it_quietly(arguments: tuple[str, ...]) -> None:
    with started(*QUICK, *arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(PATIENCE_S), process.stderr and process.stderr.read()) == (0, "")


@pytest.mark.parametrize("arguments", [("--interval", "0.05"), ("--interval", "soon"), ("--count", "0")])
def test_what_cannot_be_done_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = piped(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: Invalid value" in done.stderr


STARTS = """
import sys
from bench.__main__ import main
sys.argv = ["vnbench", "watch", "--count", "1", *sys.argv[1:]]
main()
print([name for name in ("torch", "numpy", "pandas", "pyarrow", "scipy") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_it_starts_at_once(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTS, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


# ---------------------------------------------------------------- GPUs


def last(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The last line of each device."""
    assert (done.returncode, done.stderr) == (0, "")
    return {cells(line)[1]: cells(line) for line in done.stdout.splitlines()[1:]}


def test_a_throttled_gpu_is_a_line_of_figures_and_reasons(tmp_path: Path) -> None:
    found = last(piped("--count", "1", extra=nvml.environment("throttling", tmp_path, second=4)))
    assert list(found) == ["cuda:0", "cpu"]
    _, _, clock, power, heat, busy, held_back, _ = found["cuda:0"]
    assert (clock, power, busy) == ("900", "420 / 700", "")
    assert heat.startswith("89 (")
    assert held_back == "hw_slowdown, hw_thermal_slowdown"


def test_a_gpu_that_vanishes_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    done = piped("--count", "25", *QUICK, extra=nvml.environment("gpu-lost", tmp_path, second=2))
    lines = [cells(line) for line in done.stdout.splitlines()[1:]]
    troubles = [line[-1] for line in lines if line[1] == "cuda:2"]
    assert list(dict.fromkeys(troubles)) == ["–", "GPU is lost"]
    assert [line[2] for line in lines if line[1] == "cuda:2"][-1] == "–"
    assert {line[2] for line in lines if line[1] == "cuda:3"} == {"1755"}
    assert len(lines) == 25 * 9
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("scenario", "device", "words"),
    [
        ("nvlink-down", "cuda:3", "nvlink-down: 1"),
        ("pcie-half", "cuda:0", "pcie-width: x8"),
        ("power-limit", "cuda:0", "power-limit: 500 of 700 W"),
        ("healthy", "cuda:7", "–"),
    ],
)
def test_what_speaks_against_a_gpu_is_said(tmp_path: Path, scenario: str, device: str, words: str) -> None:
    assert last(piped("--count", "1", extra=nvml.environment(scenario, tmp_path, second=0)))[device][-1] == words


SAYS_WHY = """
import sys
from bench.__main__ import main
from bench.device import select
select.nvidia_hardware = lambda: "/dev/nvidiactl"
sys.argv = ["vnbench", "watch", "--count", "1"]
main()
"""


def test_where_there_should_be_a_gpu_nvmls_own_words_say_why_there_is_none(tmp_path: Path) -> None:
    done = nvml.start_child(SAYS_WHY, nvml.environment("driver-mismatch", tmp_path))
    assert (done.returncode, done.stdout.count("\n")) == (0, 2)
    assert done.stderr.startswith("note: no GPU can be read: ")
    assert "reboot" in done.stderr


# ---------------------------------------------------------------- on a terminal


class Terminal:
    """A pseudo-terminal with the program in it."""

    def __init__(self, *arguments: str, width: int = 100, extra: Mapping[str, str] | None = None) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.process = subprocess.Popen(
            [*WATCH, *arguments],
            cwd=ROOT,
            env=variables(extra),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_own_the_terminal,  # noqa: PLW1509 - no thread runs here
        )
        os.close(theirs)
        self.seen = ""

    def until(self, condition: Callable[[str], object]) -> str:
        """What was shown until then, or until the end."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition(self.seen):
            assert time.monotonic() < end_s, self.seen
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._fd, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        return self.seen

    def key(self, key: str) -> None:
        os.write(self._fd, key.encode())

    def end(self) -> int:
        self.until(lambda seen: False)
        return self.process.wait(PATIENCE_S)


def _own_the_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def frames(seen: str) -> int:
    return seen.count("Ctrl-C ends")


def test_a_terminal_shows_a_table_that_renews_itself_until_ctrl_c() -> None:
    terminal = Terminal(*QUICK)
    terminal.until(lambda seen: frames(seen) >= 3)
    terminal.key("\x03")
    assert terminal.end() == 0
    assert "\x1b[1A" in terminal.seen, "it goes up to draw over itself"
    plain = ESCAPE.sub("", terminal.seen)
    assert "Traceback" not in plain
    assert plain.count("device") == frames(terminal.seen)
    assert terminal.seen.count(HIDE_CURSOR) == terminal.seen.count(SHOW_CURSOR) == 1
    assert terminal.seen.rindex(SHOW_CURSOR) > terminal.seen.rindex("Ctrl-C ends")


def test_a_table_that_is_told_to_end_gives_the_cursor_back() -> None:
    terminal = Terminal("--interval", "60")
    terminal.until(frames)
    terminal.process.terminate()
    assert terminal.end() == 143
    assert SHOW_CURSOR in terminal.seen


def test_a_count_ends_a_table_too() -> None:
    terminal = Terminal("--count", "2", *QUICK)
    assert terminal.end() == 0
    assert frames(terminal.seen) >= 2


def test_a_table_shows_the_gpus_above_the_cpu(tmp_path: Path) -> None:
    extra = nvml.environment("throttling", tmp_path, second=3.5)
    terminal = Terminal("--count", "1", extra=extra)
    terminal.end()
    rows = ESCAPE.sub("", terminal.seen).splitlines()
    first = next(index for index, row in enumerate(rows) if row.startswith("cuda:0 "))
    assert rows[first].split()[:5] == ["cuda:0", "900", "420", "/", "700"]
    assert any(row.startswith("cpu ") for row in rows[first + 1 :])
    assert "\x1b[1;31mhw_slowdown" in terminal.seen


def test_no_color_means_none() -> None:
    terminal = Terminal("--count", "1", extra={"NO_COLOR": "1"})
    terminal.end()
    assert frames(terminal.seen)
    assert not re.search(r"\x1b\[[0-9;]*3\dm", terminal.seen)


def test_a_terminal_that_cannot_go_up_gets_lines() -> None:
    terminal = Terminal("--count", "2", *QUICK, extra={"TERM": "dumb"})
    assert terminal.end() == 0
    assert terminal.seen.splitlines()[0] == HEADING
    assert "\x1b" not in terminal.seen
