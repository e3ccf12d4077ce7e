"""Where backups and evidence lie: in the stack's own object store, or in one at another site that the settings name
(B1).

At another site nothing is made and nothing is granted from here: its buckets and its four key pairs are given. What
each pair may do is in deploy/runbooks/backup.md, Repository not off-site.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.stack import seaweed
from deploy.stack.layout import BadSettings, Layout, Settings
from deploy.stack.pki import write
from deploy.stack.seaweed import Identity

WRITER, KEEPER, READER, EVIDENCE = NAMES = ("backups", "backups-keeper", "backups-read", "evidence")
"""The identities: adds backups; also deletes, for expiry; only reads, for restores; only puts evidence."""
PAIRS = "stack/offsite_identities.json"
_EXAMPLE = '{"backups": {"access_key": "…", "secret_key": "…"}, …}'


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStore:
    """An S3 store over TLS. host: a name, as pgBackRest compares certificates with names only (tried). backups,
    evidence: buckets. ca_file: who vouches for it; None: whom the system trusts. identities: a pair for each of NAMES.
    """

    host: str
    port: int
    region: str
    backups: str
    evidence: str
    ca_file: Path | None
    identities: Mapping[str, Identity]

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"https://{self.host}:{self.port}"


def own(store: seaweed.Seaweed, ca_file: Path) -> BackupStore:
    """The stack's own store."""
    return BackupStore(
        host="localhost", port=store.ports.s3, region=seaweed.REGION, backups="backups", evidence="evidence",
        ca_file=ca_file, identities=store.identities,
    )  # fmt: skip


def offsite(where: Layout, settings: Settings) -> BackupStore:
    """The store that the settings name. Raises BadSettings when its key pairs or its authority cannot be read."""
    url = urlsplit(settings.offsite_endpoint)
    assert url.hostname is not None, "the settings were checked"
    return BackupStore(
        host=url.hostname, port=url.port or 443, region=settings.offsite_region,
        backups=settings.offsite_backups_bucket, evidence=settings.offsite_evidence_bucket,
        ca_file=_authority(where, settings), identities=_pairs(where.secrets / PAIRS),
    )  # fmt: skip


def _authority(where: Layout, settings: Settings) -> Path | None:
    """The given file's copy, where the user may read it that the parts run as."""
    if not settings.offsite_ca_file:
        return None
    given = Path(settings.offsite_ca_file)
    try:
        text = given.read_text(encoding="ascii")
    except (OSError, ValueError) as fault:
        raise BadSettings(f"offsite_ca_file: {given} cannot be read: {fault}") from None
    if not where.offsite_ca_file.exists() or where.offsite_ca_file.read_text(encoding="ascii") != text:
        write(where.offsite_ca_file, text.encode("ascii"), 0o644)
    return where.offsite_ca_file


def _pairs(path: Path) -> dict[str, Identity]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if path.stat().st_mode & 0o077:
            raise BadSettings(f"offsite_endpoint: others than its owner may read {path}: chmod 600 it")
        return {name: _pair(given[name]) for name in NAMES}
    except FileNotFoundError:
        fault = "it is not there"
    except (OSError, ValueError, TypeError, KeyError) as error:
        fault = f"{type(error).__name__} {error}"
    raise BadSettings(
        f"offsite_endpoint: {path} has to hold the key pairs of that store as {_EXAMPLE}, for {', '.join(NAMES)},"
        f" mode 0600: {fault}"
    )


def _pair(given: Mapping[str, object]) -> Identity:
    pair = Identity(**{name: str(value) for name, value in given.items()})
    if not pair.access_key or not pair.secret_key:
        raise ValueError("an empty key")
    return pair
