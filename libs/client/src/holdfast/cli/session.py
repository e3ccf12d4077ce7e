"""`holdfast register`, `verify`, `login`, `logout`, `whoami`."""

import os
import sys
from typing import TextIO

import click

from holdfast.cli.run import Options, say, verb


@click.command()
@click.option("--email", metavar="ADDRESS", help="Asked for when it is not given.")
@click.option("--password-file", type=click.File("r"), metavar="FILE", help="First line is the password; - for stdin.")
@click.option("--organization", default="", metavar="NAME", help="organizations/…, when the account has several.")
@verb
async def login(options: Options, email: str | None, password_file: TextIO | None, organization: str) -> None:
    """Sign in at the edge and keep the session.

    HOLDFAST_PASSWORD is read when no --password-file is given; nothing is asked unless stdin is a terminal.
    """
    address = email or _asked("email", hidden=False)
    password = password_file.readline().rstrip("\n") if password_file else _asked("password", hidden=True)
    async with options.client() as client:
        session = await client.sign_in(address, password, organization=organization)
    options.show({"user": session.user, "email": session.email})
    say(f"Signed in as {session.email} at {options.edge_url()}.")


@click.command()
@click.option("--email", metavar="ADDRESS", help="Asked for when it is not given.")
@click.option("--password-file", type=click.File("r"), metavar="FILE", help="First line is the password; - for stdin.")
@click.option("--name", "display_name", default="", metavar="NAME", help="What others see.")
@verb
async def register(options: Options, email: str | None, password_file: TextIO | None, display_name: str) -> None:
    """Ask for an account; `holdfast verify` with the token of the mail opens it."""
    address = email or _asked("email", hidden=False)
    password = password_file.readline().rstrip("\n") if password_file else _asked("password", hidden=True)
    async with options.client() as client:
        await client.register(address, password, display_name=display_name)
    options.show({"email": address})
    say("Look into your mail (`holdfast mail --latest` reads the local catcher), then `holdfast verify TOKEN`.")


@click.command()
@click.argument("token")
@verb
async def verify(options: Options, token: str) -> None:
    """Prove the address of a new account with the token from its mail."""
    async with options.client() as client:
        await client.verify_email(token)
    options.show({"verified": True})
    say("Verified. Sign in with `holdfast login`.")


@click.command()
@verb
async def logout(options: Options) -> None:
    """End the session here and on the server."""
    async with options.client() as client:
        await client.sign_out()
    options.show({"signed_out": True})
    say("Signed out.")


@click.command()
@verb
async def whoami(options: Options) -> None:
    """Who is signed in."""
    async with options.client() as client:
        user = await client.me()
    found = {"user": user.name, "email": user.email, "organization": user.organization_display_name}
    options.show(found, f"{user.email} ({user.name})")


def _asked(what: str, *, hidden: bool) -> str:
    given = os.environ.get(f"HOLDFAST_{what.upper()}", "")
    if given:
        return given
    if not sys.stdin.isatty():
        raise click.UsageError(f"Nobody to ask for the {what}: give it by option or HOLDFAST_{what.upper()}.")
    return str(click.prompt(what.capitalize(), hide_input=hidden, err=True))
