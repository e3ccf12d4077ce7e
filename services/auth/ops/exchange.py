"""A service acts for a user at another service."""

from datetime import datetime

from libs import audit
from libs.principal import User
from services.auth.adapters.minting import Minter
from services.auth.domain import exchange
from services.auth.domain.errors import ExchangeNotAllowed, UserNotFound
from services.auth.ops import Begin
from services.auth.store import people


class Exchange:
    """Mints for (caller, audience) pairs on the allow-list, for users whom nothing disables."""

    def __init__(self, *, begin: Begin, minter: Minter) -> None:
        self._begin, self._minter = begin, minter

    async def exchange(self, caller: str, organization_id: str, user_id: str, audience: str) -> tuple[str, datetime]:
        """(user token, its end) with *caller* as its actor and no session. Raises ExchangeNotAllowed, UserNotFound."""
        if not exchange.allowed(caller, audience):
            raise ExchangeNotAllowed(
                f"{caller} may not act for people at {audience}.", caller=caller, audience=audience
            )
        async with self._begin(User(organization_id, user_id, actor=caller)) as tx:
            standing = await people.standing(tx, organization_id, user_id)
            if standing is None:
                raise UserNotFound("No such user, or one that is disabled.", user=user_id)
            await audit.record(tx, "token.exchanged", service=caller, audience=audience)
        return self._minter.mint(standing, audience, actor=caller)
