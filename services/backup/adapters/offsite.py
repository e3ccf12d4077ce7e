"""The off-site store of evidence, spoken to with an identity that may put and nothing else.

It can look at nothing there, so what has been put is remembered on this disk. No record's key is used for other bytes:
it has the record's number and digest. The store's conditional writes are not relied on; that nothing put there can
be changed or removed is the bucket's doing (versions, and a lock of three years: deploy.stack.seaweed).
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from libs.errors import Unavailable
from libs.secret import Secret
from services.backup.adapters.journal import write


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where, and as whom. endpoint: https URL. ca_file: PEM of who may vouch for it, "" for the system's."""

    endpoint: str
    region: str
    name: str
    ca_file: str
    access_key: Secret
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class Filled:
    """Everything of *chain* up to record *sequence*, which has this *digest*; "", 0, "" for nothing."""

    chain: str
    sequence: int
    digest: str


NOTHING_YET = Filled("", 0, "")


class Offsite:
    """One bucket. remembered: file that says up to which record it was filled."""

    def __init__(self, bucket: Bucket, remembered: Path) -> None:
        self._bucket = bucket
        self._remembered = remembered
        self._client: Any = None

    def filled(self) -> Filled:
        """What this very bucket has got; nothing for one that is new."""
        try:
            found: Mapping[str, Any] = json.loads(self._remembered.read_text(encoding="utf-8"))
            if found["place"] != self._place():
                return NOTHING_YET
            return Filled(str(found["chain"]), int(found["sequence"]), str(found["digest"]))
        except (OSError, ValueError, KeyError, TypeError):
            return NOTHING_YET

    def remember(self, filled: Filled) -> None:
        """All that is there."""
        write(self._remembered, json.dumps({"place": self._place(), **asdict(filled)}) + "\n")

    async def put(self, key: str, content: bytes) -> None:
        """Store *content* under *key*. Raises Unavailable, told in the store's own words."""
        await asyncio.to_thread(self._put, key, content)

    def _place(self) -> str:
        return f"{self._bucket.endpoint}/{self._bucket.name}"

    def _put(self, key: str, content: bytes) -> None:
        try:
            if self._client is None:
                self._client = _client(self._bucket)
            self._client.put_object(Bucket=self._bucket.name, Key=key, Body=content, ContentType="application/json")
        except ClientError as fault:
            code = fault.response.get("Error", {}).get("Code", "")
            raise Unavailable(f"The off-site store of evidence refuses: {code}.", code=code) from fault
        except (BotoCoreError, OSError) as fault:
            what = type(fault).__name__
            raise Unavailable(f"The off-site store of evidence is away: {what}.", fault=what) from fault


def _client(bucket: Bucket) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name=bucket.region,
        aws_access_key_id=bucket.access_key.text(),
        aws_secret_access_key=bucket.secret_key.text(),
        verify=bucket.ca_file or True,
        config=Config(
            connect_timeout=3,
            read_timeout=15,
            retries={"total_max_attempts": 1},  # the loop that calls is the retry
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )
