"""Which e-mail addresses are accepted, and when two of them are one. Source: RFC 5321, RFC 5322, RFC 6531."""

import unicodedata
from functools import cache
from importlib.resources import files

from email_validator import EmailNotValidError, validate_email

from libs.errors import Violation
from services.auth.domain.errors import EmailRefused

MAX_CHARS = 255


def accept(text: str) -> str:
    """The address as it is kept and shown. Raises EmailRefused when mail cannot go there, or only to a throw-away
    box.
    """
    try:
        found = validate_email(text.strip(), check_deliverability=False, allow_display_name=False, strict=True)
    except EmailNotValidError:
        raise refused("is not an e-mail address") from None
    if len(found.normalized) > MAX_CHARS:
        raise refused(f"is longer than {MAX_CHARS} characters")
    labels = found.ascii_domain.lower().split(".")
    if any(".".join(labels[n:]) in _disposable() for n in range(len(labels))):
        raise refused("belongs to a throw-away mail service")
    return found.normalized


def key(text: str) -> str:
    """What all spellings of one mailbox share; total, so that sign-in can ask with whatever was typed."""
    try:
        address = validate_email(text.strip(), check_deliverability=False, allow_display_name=False).normalized
    except EmailNotValidError:
        address = unicodedata.normalize("NFC", text.strip())
    return unicodedata.normalize("NFC", address.casefold())


def refused(why: str) -> EmailRefused:
    """The refusal of the field `email`."""
    return EmailRefused(f"The e-mail address {why}.", violations=[Violation("email", why)])


@cache
def _disposable() -> frozenset[str]:
    text = files("services.auth.domain").joinpath("disposable_domains.txt").read_text("utf-8")
    return frozenset(domain for line in text.splitlines() if not line.startswith("#") for domain in line.split())
