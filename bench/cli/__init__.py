"""The command line: parse, call, print, exit."""

from __future__ import annotations

import click

import bench
from bench.cli.ab import aa, ab
from bench.cli.accept import accept
from bench.cli.baseline import baseline
from bench.cli.compare import compare
from bench.cli.criteria import criteria
from bench.cli.gate import gate
from bench.cli.golden import golden
from bench.cli.history import history
from bench.cli.import_ import import_
from bench.cli.info import info
from bench.cli.judge import judge
from bench.cli.keygen import keygen
from bench.cli.list import list_
from bench.cli.pack import pack
from bench.cli.plan import plan
from bench.cli.run import run
from bench.cli.seal import countersign, seal
from bench.cli.show import show
from bench.cli.soak import soak
from bench.cli.verify import verify
from bench.cli.watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(bench.__version__, package_name="vnbench")
def cli() -> None:
    """Measure what an AI node really delivers.

    \b
    vnbench run quick        measure this node, results in results/runs/
    vnbench show RUN         the table of a run again, or its telemetry
    vnbench list             what can be measured here
    vnbench info             devices, libraries, roofs, what is unfit
    vnbench watch            clocks, power and heat, live

    \b
    vnbench compare A B      nodes, labels or files: which is better?
    vnbench ab WORKLOAD      two versions here, in turns: is B slower?
    vnbench aa WORKLOAD      what this machine can tell apart
    vnbench gate             a stored baseline: is anything slower now?
    vnbench baseline         keep results under a name, for the gate
    vnbench history WORKLOAD a figure over the commits
    vnbench import FILE      results of pytest-benchmark or SuperBench
    vnbench pack             many result files into few

    \b
    vnbench plan             how many nodes to inspect, how sure that is
    vnbench accept           does this node meet a contract's criteria?
    vnbench soak --hours H   sustained load, and what it does to the rates
    vnbench judge RUN        the same of a result that is there
    vnbench criteria         the files that state them
    vnbench golden           outputs that are known bit by bit
    vnbench seal RUN         one signed file of a run and its verdict
    vnbench countersign FILE sign what another sealed
    vnbench verify FILE      who signed what, and is it still that?
    vnbench keygen NAME      a key pair to seal with

    Exit codes: 0 done, PASS, IMPROVED; 2 usage; 3 a workload failed or was
    wrong; 4 machine not fit (--strict, gate); 5 REGRESSED, FAIL, a bad seal;
    6 no clear answer, or nothing to compare; 7 output not writable; 130/143
    interrupted.
    """


_COMMANDS = (
    *(run, show, list_, info, watch),
    *(compare, ab, aa, gate, baseline, history, import_, pack),
    *(plan, accept, soak, judge, criteria, golden, seal, countersign, verify, keygen),
)
for command in _COMMANDS:
    # Set on each, for click asks only the first who calls a command.
    command.context_settings = {**command.context_settings, "help_option_names": ["-h", "--help"]}
    cli.add_command(command)
