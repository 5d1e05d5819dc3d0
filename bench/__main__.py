"""The program: ``vnbench``, or ``python3 -m bench`` in a checkout. The only place that exits for an error."""

from __future__ import annotations

import sys

import click

from bench.cli import cli
from bench.errors import VnbenchError


def main() -> None:
    """Run a command; an error becomes one line on stderr and the exit code of its kind."""
    try:
        cli(standalone_mode=False)
    except VnbenchError as error:
        _leave(f"vnbench: {error}", error.exit_code)
    except click.Abort:
        _leave("vnbench: interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has had enough
        sys.stderr.close()
        sys.exit(0)


def _leave(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
