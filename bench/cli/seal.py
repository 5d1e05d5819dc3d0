"""``vnbench seal`` and ``vnbench countersign``"""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import PINNED, file_option, trust_option

_key_option = file_option("--key", "NAME.key", "The private key to sign with.", required=True)
_out_option = file_option("--out", "BUNDLE", "Where to write; a file that is there is never replaced.")


@click.command()
@click.argument("run", metavar="RUN|PATH")
@_key_option
@click.option("--criteria", "text", metavar="FILE|NAME", help="The criteria that it is judged by.")
@file_option("--log", "FILE", "A log to put beside them.")
@_out_option
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="The results folder.",
)
def seal(
    run: str,
    key: Path,
    text: str | None,
    log: Path | None,
    out: Path | None,
    results: Path,
) -> None:
    """Seal a run: one file of it and its verdict, signed.

    With criteria it is judged by them, and the verdict sealed with it. A
    simulated run is refused. The nonce is that of vnbench accept --nonce.
    docs/seal.md says what a seal proves and what not.

    \b
    Examples:
      vnbench seal 5f0c --key operator.key
      vnbench seal 5f0c --key operator.key --criteria contract.toml
      vnbench seal 5f0c --key operator.key --log accept.log
    """
    import datetime as dt

    from bench import store
    from bench.acceptance import canonical
    from bench.criteria import file as criteria_files
    from bench.seal import bundle, evidence, keys

    signer = keys.load_private(key)
    found = store.find_one(results, run)
    criteria = None if text is None else criteria_files.path_of(text)
    judged = None if text is None else canonical.judge_file(found, criteria_files.load(text))[1] + b"\n"
    files, predicate = evidence.gather(found, dt.datetime.now(dt.UTC), criteria=criteria, judged=judged, log=log)
    target = out or Path(f"{predicate.run_id}.seal.tar")
    bundle.write(target, bundle.seal(files, predicate, signer))
    click.echo(target)
    click.echo(f"{len(files)} files, {predicate.verdict or 'no verdict'}, key {signer.public.id}", err=True)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@_key_option
@file_option("--signer", PINNED, "Who sealed it: a key that you trust. As often as there are seals.", multiple=True)
@trust_option
@_out_option
def countersign(bundle: Path, key: Path, signer: tuple[Path, ...], trust: Path | None, out: Path | None) -> None:
    """Sign a bundle that another sealed: one file that holds it whole.

    It is verified first, as vnbench verify does; what is not good is not
    signed.

    \b
    Examples:
      vnbench countersign node7.seal.tar --key my.key --signer operator.pub
      vnbench countersign node7.seal.tar --key my.key --trust trust.toml
    """
    import datetime as dt

    from bench.seal import bundle as bundles
    from bench.seal import countersign as seals
    from bench.seal import keys, repeat, verify
    from bench.seal import trust as trusted

    private = keys.load_private(key)
    signers = trusted.gather(signer, trust)
    made, verified = seals.countersign(verify.read(bundle), private, signers, dt.datetime.now(dt.UTC))
    repeat.check(verified)
    target = out or bundle.with_name(f"{bundle.name.removesuffix('.seal.tar')}.countersigned.seal.tar")
    bundles.write(target, made)
    click.echo(target)
    sealed_by = ", ".join(link.signer.words for link in verified.links)
    click.echo(f"run {verified.run.run_id}, sealed by {sealed_by}; key {private.public.id}", err=True)
