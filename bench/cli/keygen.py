"""``vnbench keygen``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name", type=click.Path(path_type=Path), metavar="NAME|PATH")
def keygen(name: Path) -> None:
    """Make a key pair to seal with: NAME.key and NAME.pub.

    NAME.key is the private one: only its owner may read it, and it is never
    printed. Give NAME.pub to those who verify, by a way they trust.

    \b
    Examples:
      vnbench keygen operator
      vnbench keygen ~/keys/inspector
    """
    from bench.seal import keys

    public = keys.generate(name)
    private_path, public_path = keys.files_of(name)
    click.echo(f"public key  {public.text}\nkey id      {public.id}")
    click.echo(f"private key: {private_path}, keep it; public key: {public_path}, give it away", err=True)
