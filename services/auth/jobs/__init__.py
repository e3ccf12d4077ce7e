"""Handlers of auth's jobs: arguments in, one operation called. A mail that cannot leave raises, and is tried again
later.
"""

from libs.jobqueue import Lease
from services.auth.domain.job import SendAlreadyRegistered, SendVerification
from services.auth.ops.registration import Registration


class Mails:
    """The mails of registration."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    async def send_verification(self, job: SendVerification, lease: Lease) -> None:
        """Mail a fresh token."""
        await self._registration.send_verification(job.link_id)

    async def send_already_registered(self, job: SendAlreadyRegistered, lease: Lease) -> None:
        """Tell the owner of a known address."""
        await self._registration.send_already_registered(job.account_id)
