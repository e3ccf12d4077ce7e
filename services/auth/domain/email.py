"""Which e-mail addresses are accepted, and when two of them are one. Source: RFC 5321, RFC 5322, RFC 6531."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

from libs.errors import Violation
from services.auth.domain.errors import EmailRefused

MAX_CHARS = 255
DISPOSABLE = frozenset(
    """
    10minutemail.com 10minutemail.net 20minutemail.com 33mail.com anonaddy.me burnermail.io discard.email dispostable.com
    dropmail.me emailondeck.com fakeinbox.com fakemail.net getairmail.com getnada.com grr.la guerrillamail.biz guerrillamail.com
    guerrillamail.de guerrillamail.info guerrillamail.net guerrillamail.org guerrillamailblock.com harakirimail.com inboxbear.com
    inboxkitten.com mail-temp.com mail.tm mailcatch.com maildrop.cc mailinator.com mailinator.net mailinator2.com mailnesia.com
    mailnull.com mailsac.com mintemail.com moakt.com mohmal.com mytemp.email nada.email sharklasers.com spam4.me spamgourmet.com
    spamex.com temp-mail.io temp-mail.org tempail.com tempinbox.com tempmail.dev tempmail.net tempmailo.com tempr.email
    throwawaymail.com tmail.ws tmpmail.net tmpmail.org trash-mail.com trashmail.com trashmail.de trashmail.net yopmail.com yopmail.fr
    yopmail.net
    """.split()
)
"""Domains that hand out throw-away mailboxes; each of their subdomains counts too."""


def accept(text: str) -> str:
    """The address as it is kept and shown. Raises EmailRefused when mail cannot go there, or only to a throw-away box."""
    try:
        found = validate_email(text.strip(), check_deliverability=False, allow_display_name=False)
    except EmailNotValidError:
        raise refused("is not an e-mail address") from None
    if len(found.normalized) > MAX_CHARS:
        raise refused(f"is longer than {MAX_CHARS} characters")
    labels = found.ascii_domain.lower().split(".")
    if any(".".join(labels[n:]) in DISPOSABLE for n in range(len(labels))):
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
