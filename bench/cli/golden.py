"""``vnbench golden``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import json_option, out_option, report_option


@click.group()
def golden() -> None:
    """Outputs that are known bit by bit: is this device right?

    \b
    Examples:
      vnbench golden collect results/runs --to golden.json
      vnbench golden check 5f0c
    """


@golden.command()
@click.argument("what", nargs=-1, required=True, metavar="RESULT...")
@out_option
@report_option("--to", "Write the values as JSON.")
@click.option("--toml", is_flag=True, help="Print them for an [[answers]] table of a criteria file.")
def collect(what: tuple[str, ...], out: Path, to: Path | None, toml: bool) -> None:
    """Collect the hashes of outputs, by all that determines them.

    Device model, driver, libraries, workload; on a CPU its model and the
    threads as well. Two outputs on equal terms are refused by name.

    \b
    Examples:
      vnbench golden collect results/reference/vm --to golden.json
      vnbench golden collect 5f0c --toml >> contract.toml
    """
    from bench import golden as values
    from bench import store
    from bench.files import write_report

    found = values.collect(dict.fromkeys(path for text in what for path in store.find(out, text)))
    if to is not None:
        write_report(to, values.to_json(found))
        click.echo(f"{to}: {len(found)} golden values", err=True)
    if toml or to is None:
        click.echo(values.to_toml(found) if toml else values.to_json(found), nl=False)


@golden.command()
@click.argument("result", metavar="PATH|RUN")
@out_option
@click.option("--golden", "file", type=click.Path(path_type=Path), metavar="FILE", help="Instead of vnbench's own.")
@json_option
def check(result: str, out: Path, file: Path | None, as_json: bool) -> None:
    """Hold the outputs of a result against golden values.

    \b
    Examples:
      vnbench golden check 5f0c
      vnbench golden check 5f0c --golden golden.json

    Exit codes: 0 all agree, 2 usage, 5 one differs, 6 one is not known.
    """
    import json

    from bench import errors, outputs, store
    from bench import golden as values

    found = values.check(store.read(store.find_one(out, result))[1], values.load(file or values.FILE))
    stands = {"agrees": found.agrees, "differs": found.differs, "unknown": found.unknown}
    if as_json:
        listed = {
            name: [{"workload": row["workload"], "place": outputs.place(row)} for row in rows]
            for name, rows in stands.items()
        }
        click.echo(json.dumps(listed))
    else:
        for row in found.differs:
            click.echo(f"differs: {row['workload']} on {outputs.place(row)}: sha256 {row['output_sha256']}")
        for name in sorted({row["workload"] for row in found.unknown}):
            click.echo(f"not known under these conditions: {name}")
        click.echo(", ".join(f"{len(rows)} {name}" for name, rows in stands.items()))
    missing = bool(found.unknown) or not found.agrees
    sys.exit(errors.REGRESSED if found.differs else errors.INCONCLUSIVE if missing else errors.OK)
