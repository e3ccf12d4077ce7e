"""What auth does: one verb, one transaction, all effects or none."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from libs.db import Tx
from libs.principal import Principal, System

Begin: TypeAlias = Callable[[Principal], AbstractAsyncContextManager[Tx]]
"""libs.db.Database.begin."""
Put: TypeAlias = Callable[[Tx, Any], Awaitable[object]]
"""libs.jobqueue.put."""

AUTH = System("auth")
"""Who acts before anybody is known: sees accounts, link tokens and the feed, no tenant's row."""
