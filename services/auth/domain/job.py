"""Arguments of auth's jobs: ids only, never a token."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SendVerification:
    """Mail a fresh verification token. Put by the transaction that registers the account."""

    account_id: str


@dataclass(frozen=True, slots=True)
class SendAlreadyRegistered:
    """Tell the owner of a verified address that somebody tried to register it again."""

    account_id: str
