"""How mail leaves: a Protocol, and SMTP. Source: RFC 5321, RFC 3207, RFC 5322."""

from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal, Protocol

import aiosmtplib

from libs.errors import Unavailable
from services.auth.domain.mail import Message

Tls = Literal["off", "starttls", "tls"]


class Mail(Protocol):
    """Something that delivers a message, or raises Unavailable when it may be tried again."""

    async def send(self, message: Message) -> None:
        """Hand *message* over; returning means that the next station has taken responsibility."""


class SmtpMail:
    """A submission server. tls: checked against the system's or *ca_file*'s authorities; off only on loopback (config
    refuses it).
    """

    def __init__(
        self, *, host: str, port: int, tls: Tls, sender: str, user: str = "", password: str = "", ca_file: str = "",
        timeout_seconds: float = 10.0,
    ) -> None:  # fmt: skip
        self._sender = sender
        self._host, self._port, self._tls = host, port, tls
        self._user, self._password = user or None, password or None
        self._ca_file, self._timeout_seconds = ca_file or None, timeout_seconds

    async def send(self, message: Message) -> None:
        """Hand *message* to the server. Raises Unavailable; the server's own words stay in the exception chain."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, message.to, message.subject
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=self._sender.rpartition("@")[2].strip("> "))
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text, cte="quoted-printable")
        try:
            await aiosmtplib.send(
                mail,
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._tls == "tls",
                start_tls=self._tls == "starttls",
                cert_bundle=self._ca_file,
                timeout=self._timeout_seconds,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Unavailable("The mail server did not take the message.", retry_after_seconds=30.0) from error
