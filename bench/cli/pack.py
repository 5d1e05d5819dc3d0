"""``vnbench pack``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import out_option


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="RESULT...")
@out_option
@click.option(
    "--to", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Where to write."
)
@click.option("--run", "only", metavar="RUN_ID", help="Only this run: as a file of its own.")
@click.option("--remove-originals", is_flag=True, help="Remove the files that were packed, once that is verified.")
def pack(what: tuple[str, ...], out: Path, to: Path, only: str | None, remove_originals: bool) -> None:
    """Pack many results into few files, which are read much faster.

    Every column is kept, raw samples too. A run that is in a folder both
    packed and by itself counts once.

    \b
    Examples:
      vnbench pack results/runs --to packed
      vnbench pack results/runs --to results/runs --remove-originals
      vnbench pack packed --run 5f0c --to one
    """
    from bench import pack as packs
    from bench import store, units
    from bench.errors import UsageError
    from bench.report import table

    if only is not None and remove_originals:
        raise UsageError("--run takes one run out of files that hold others", "Leave out --remove-originals")
    paths = list(dict.fromkeys(path for text in what for path in store.find(out, text)))
    with table.console(stderr=True).status("packing") as status:
        done = packs.pack(
            paths,
            to,
            only=only,
            remove_originals=remove_originals,
            progress=lambda count, of: status.update(f"packing run {count} of {of}"),
        )
    for path in done.files:
        click.echo(path)
    removed = f", {len(done.removed)} removed" if remove_originals else ""
    before, after = (units.show_bytes(size) for size in (done.bytes_before, done.bytes_after))
    click.echo(
        f"{done.runs} runs, {done.rows} measurements: {len(paths)} files ({before}){removed} -> "
        f"{len(done.files)} ({after})",
        err=True,
    )
