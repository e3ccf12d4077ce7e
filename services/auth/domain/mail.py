"""What auth writes to people: plain text, one purpose each."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Message:
    """One mail before it meets a transport."""

    to: str
    subject: str
    text: str

    def __repr__(self) -> str:
        return f"Message(subject={self.subject!r})"


def verification(to: str, token: str, *, lifetime: timedelta, product: str, link: str) -> Message:
    """The mail that proves an address. link: a page that takes the token after `#`, "" for none. The token has a line
    of its own.
    """
    hours = int(lifetime.total_seconds() // 3600)
    page = f"Or open this page:\n\n{link}#token={token}\n\n" if link else ""
    return Message(
        to,
        f"{product}: confirm your e-mail address",
        f"Somebody, we hope you, signed up to {product} with this address.\n\n"
        f"To confirm it, enter this token within {hours} hours:\n\n{token}\n\n{page}"
        "If it was not you, do nothing: without the token nobody can sign in with your address.\n",
    )


def already_registered(to: str, *, product: str) -> Message:
    """The mail to the owner of an address that somebody tried to register again."""
    return Message(
        to,
        f"{product}: you have an account already",
        f"Somebody tried to sign up to {product} with this address, which has an account already.\n\n"
        "If it was you, simply sign in. If not, there is nothing to do: nothing about the account has changed.\n",
    )
