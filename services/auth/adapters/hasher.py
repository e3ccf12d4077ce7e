"""argon2id in a bounded pool: passwords cost what they must, and a flood of them costs no more than the pool. Source:
RFC 9106, OWASP.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from services.auth.domain.errors import Overloaded

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Verified:
    """matches: the password is the stored one. outdated: hashed with other parameters, so it wants hashing again."""

    matches: bool
    outdated: bool = False


class Hasher:
    """Hash and verify in *workers* threads (argon2 lets go of the interpreter), each waiting its turn at most
    *queue_seconds*.

    A libs.process.Part. Raises Overloaded when more than *queue* wait, or the turn does not come in time.
    """

    def __init__(
        self, *, workers: int, queue: int, queue_seconds: float, memory_kib: int, time_cost: int, parallelism: int
    ) -> None:
        self._argon2 = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=parallelism, hash_len=32, salt_len=16, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._slots = asyncio.Semaphore(workers)
        self._queue, self._queue_seconds = queue, queue_seconds
        self._waiting = 0
        # Verified instead of nothing for an address that is not known, so that both answers take the same way and time.
        self._nobody = self._argon2.hash(os.urandom(32))

    async def hash(self, password: str) -> str:
        """The PHC string of *password* under the present parameters and a fresh salt."""
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, stored: str | None, password: str) -> Verified:
        """Whether *password* is the one *stored*; for None the same work is done and the answer is no."""
        return await self._run(lambda: self._verify(stored, password))

    async def start(self) -> None:
        """Nothing: threads begin with the first password."""

    def refuse(self) -> None:
        """Nothing: the transports refuse."""

    async def drain(self, seconds: float) -> None:
        """Nothing: calls in flight wait for their own hashes."""

    async def stop(self) -> None:
        """End the threads; what still waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str | None, password: str) -> Verified:
        try:
            self._argon2.verify(stored or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return Verified(False)
        return Verified(stored is not None, stored is not None and self._argon2.check_needs_rehash(stored))

    async def _run(self, work: Callable[[], R]) -> R:
        await self._turn()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Given back by the thread, not by the caller: a caller that leaves does not stop the hash.
        future.add_done_callback(lambda _: self._slots.release())
        return await asyncio.shield(future)

    async def _turn(self) -> None:
        if self._waiting >= self._queue:
            raise self._overloaded()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._queue_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise self._overloaded() from None
        finally:
            self._waiting -= 1

    def _overloaded(self) -> Overloaded:
        return Overloaded("Too many passwords are being checked at once.", retry_after_seconds=self._queue_seconds)
