"""``vnbench verify``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import PINNED, file_option, html_option, json_option, lang_option, seconds, trust_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@file_option("--key", PINNED, "A key that you trust, of each who sealed.", multiple=True)
@trust_option
@click.option("--nonce", metavar="TEXT", help="What you asked to see in it.")
@click.option("--max-age", callback=seconds, metavar="TIME", help="How long ago the run may have begun: 12h, 30d.")
@file_option("--criteria", "FILE", "What you asked it to be judged by.")
@click.option("--require", multiple=True, metavar="NAME", help="A name, role or key id that must have sealed.")
@html_option
@lang_option
@json_option
def verify(
    bundle: Path,
    key: tuple[Path, ...],
    trust: Path | None,
    nonce: str | None,
    max_age: float | None,
    criteria: Path | None,
    require: tuple[str, ...],
    html: Path | None,
    lang: str,
    as_json: bool,
) -> None:
    """Verify a sealed bundle: who signed what, and is it still that?

    Every seal in it must be by a key that you pin or trust. Exits with 5
    for a bad seal and says what is wrong, with 2 for what is no bundle.

    \b
    Examples:
      vnbench verify node7.seal.tar --key operator.pub
      vnbench verify node7.seal.tar --trust trust.toml --require inspector
      vnbench verify node7.seal.tar --key operator.pub --nonce 8c1e0f7a66d2
      vnbench verify node7.seal.tar --key operator.pub --max-age 30d --json
      vnbench verify node7.seal.tar --key operator.pub --html node7.html
    """
    import hashlib

    from bench.acceptance import dossier
    from bench.errors import BadSeal, UnreadableResult, UsageError
    from bench.report import acceptance_files
    from bench.report import seal as report
    from bench.seal import repeat
    from bench.seal import trust as trusted
    from bench.seal import verify as seals

    signers = trusted.gather(key, trust)
    try:
        sha256 = hashlib.sha256(criteria.read_bytes()).hexdigest() if criteria else None
    except OSError as error:
        raise UsageError(f"{criteria}: {error.strerror or error}", "Name a readable file of criteria") from None
    content = seals.read(bundle)
    try:
        found = seals.verify(content, signers, seals.Demands(nonce, max_age, sha256, require))
        repeat.check(found)
    except UnreadableResult as error:
        raise UnreadableResult(f"{bundle}: {error.what}", error.remedy) from None
    except BadSeal as error:
        if not as_json:
            raise BadSeal(f"BAD SEAL: {bundle}: {error.what}", error.remedy) from None
        click.echo(report.bad_json(error.what, error.exit_code))
        sys.exit(error.exit_code)
    click.echo(report.to_json(found) if as_json else report.text(found))
    if html:
        acceptance_files.write(dossier.of_bundle(found), html=html, lang=lang)
