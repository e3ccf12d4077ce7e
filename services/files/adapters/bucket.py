"""One bucket of any S3, spoken to with one key pair: boto3 in threads, its faults translated. A libs.process.Part."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from libs.secret import Secret
from services.files.domain.errors import StoreUnavailable

_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404"})

R = TypeVar("R")


class Absent(Exception):
    """The store has no such object or upload."""


class Bucket:
    """endpoint: https URL. ca_file: PEM of who may vouch for it, "" for the system's. threads: calls at once."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        bucket: str,
        access_key: str,
        secret_key: Secret,
        ca_file: str,
        threads: int,
    ) -> None:
        self._bucket = bucket
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key.text(),
            verify=ca_file or True,
            config=Config(
                connect_timeout=3,
                read_timeout=30,
                # A store that has just started does not know all its volumes at once: ride over a second or two.
                retries={"total_max_attempts": 3, "mode": "standard"},
                max_pool_connections=threads * 4,
                # Self-hosted stores break on the checksum trailers boto3 adds by itself; ours is a SHA-256 of all.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    async def probe(self) -> None:
        """Return when the store answers and our key pair may use the bucket. Raises StoreUnavailable."""
        await self._call(self._client.list_objects_v2, Bucket=self._bucket, MaxKeys=1)

    async def check(self) -> list[str]:
        """What is wrong with the store or our way to it; [] when it may be used."""
        try:
            await self.probe()
        except StoreUnavailable as fault:
            return [fault.message]
        return []

    async def start(self) -> None:
        """Nothing: connections are opened when they are needed."""

    def refuse(self) -> None:
        """Nothing: the transports refuse."""

    async def drain(self, seconds: float) -> None:
        """Nothing: whoever moves bytes drains first."""

    async def stop(self) -> None:
        """Close the connections; calls still running end first."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def _forgiving(self, function: Callable[..., Any], **arguments: Any) -> None:
        try:
            await self._call(function, **arguments)
        except Absent:
            return

    async def _call(self, function: Callable[..., R], **arguments: Any) -> R:
        def run() -> R:
            with _translated():
                return function(**arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


@contextmanager
def _translated() -> Iterator[None]:
    """boto3's faults as what they mean; the text of none of them leaves this module."""
    try:
        yield
    except ClientError as fault:
        if fault.response.get("Error", {}).get("Code") in _ABSENT:
            raise Absent from fault
        raise _away() from fault
    except (BotoCoreError, HTTPClientError, OSError) as fault:
        raise _away() from fault


def _away() -> StoreUnavailable:
    return StoreUnavailable("The object store cannot be reached.", retry_after_seconds=2.0)
