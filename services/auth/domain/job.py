"""Arguments of auth's jobs: ids only, never a token."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SendVerification:
    """Mail a verification token. Put by the transaction that registers; the token is made when the mail is sent."""

    link_id: str


@dataclass(frozen=True, slots=True)
class SendAlreadyRegistered:
    """Tell the owner of a verified address that somebody tried to register it again."""

    account_id: str
