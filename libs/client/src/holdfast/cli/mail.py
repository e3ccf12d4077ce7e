"""`holdfast mail`: read what the stack's mail catcher kept."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import click

from holdfast.cli.run import Options, table, verb
from holdfast.errors import HoldfastError

TOKEN = re.compile(r"^[0-9A-Za-z_.~-]{20,}$", re.MULTILINE)
"""A line of a mail that is nothing but a token."""


@click.command()
@click.option("--to", "recipient", default="", metavar="ADDRESS", help="Only mail to this address.")
@click.option("--latest", is_flag=True, help="Only the newest, in full.")
@click.option("--token", is_flag=True, help="Only the token in the newest mail that has one.")
@verb
async def mail(options: Options, recipient: str, latest: bool, token: bool) -> None:
    """Mail that the local catcher kept, newest last; nothing is ever delivered from there."""
    mails = [found for found in _read(Path(str(options.stack()["mail_dir"]))) if recipient in found["to"]]
    if token:
        mails = [found for found in mails if found["token"]]
    if not mails:
        raise HoldfastError("NOT_FOUND", "There is no such mail (yet).")
    if token:
        options.show({"token": mails[-1]["token"]}, mails[-1]["token"])
    elif latest:
        newest = mails[-1]
        options.show(
            newest, f"To: {newest['to']}\nSubject: {newest['subject']}\nDate: {newest['date']}\n\n{newest['text']}"
        )
    else:
        listed = table("date", "to", "subject")
        for found in mails:
            listed.add_row(found["date"], found["to"], found["subject"])
        options.show(mails, listed)


def _read(folder: Path) -> list[dict[str, str]]:
    """Every mail in the order in which it came: the catcher's file names begin with the time."""
    return [_parts(path.read_bytes()) for path in sorted(folder.glob("*.eml"))]


def _parts(raw: bytes) -> dict[str, str]:
    message = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
    body = message.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    found = TOKEN.search(text.replace("\r\n", "\n"))
    return {
        "to": str(message["to"] or ""),
        "subject": str(message["subject"] or ""),
        "date": str(message["date"] or ""),
        "text": text,
        "token": found[0] if found else "",
    }
