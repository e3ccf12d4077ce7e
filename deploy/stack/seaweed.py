"""The object store of one machine: one SeaweedFS process with S3 over TLS on loopback.

`Seaweed` describes the process (files, arguments, environment), says whether it answers, and makes the buckets; it does
not start it, so that the supervisor and the tests each start it in their own way. Facts tried on SeaweedFS 4.48:
it binds 8181 and 9101 unless told not to, leaves sockets in /tmp unless told where, reports statistics to its makers
unless told not to, and `Write` allows deletion, so the identities use IAM policies where that is too much. Versions and
object locks hold, also against the identity that set them up.
"""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKETS = ("files", "keys", "backups", "evidence")
REGION = "us-east-1"
EVIDENCE_DAYS = 1200
"""How long evidence cannot be removed: the three years of the promise, and some months."""
_READ = (
    "s3:GetObject",
    "s3:GetBucketLocation",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
)
_ADD = ("s3:PutObject", "s3:AbortMultipartUpload")
_WRITE = (*_ADD, "s3:DeleteObject")


@dataclass(frozen=True, slots=True)
class Grant:
    """What one identity may do in *bucket*. deletes: the only objects it may delete, a pattern; "" for what actions
    say."""

    bucket: str
    actions: tuple[str, ...]
    deletes: str = ""


GRANTS: Mapping[str, Grant] = {
    "files": Grant("files", _READ + _WRITE),
    "files-read": Grant("files", _READ),
    # Users' keys: no versions are kept there, so that a deleted one is gone.
    "files-keys": Grant("keys", _READ + _WRITE),
    "files-keys-read": Grant("keys", _READ),
    # It adds to the history of backups and cannot take from it: all it may remove is the mark of the newest one, which
    # pgBackRest sets anew after each backup.
    "backups": Grant("backups", _READ + _ADD, deletes="pgbackrest/backup/*/latest"),
    "backups-keeper": Grant("backups", _READ + _WRITE),
    "backups-read": Grant("backups", _READ),
    "evidence": Grant("evidence", ("s3:PutObject",)),
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port the process binds, all on 127.0.0.1; only s3 is meant for others, the rest is its own inner talk."""

    s3: int
    s3_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int

    @classmethod
    def count(cls) -> int:
        """How many ports are needed."""
        return len(fields(cls))


@dataclass(frozen=True, slots=True)
class Identity:
    """One S3 key pair. The names are "setup" (makes buckets; the stack keeps it) and those of GRANTS."""

    access_key: str
    secret_key: str


IDENTITIES = ("setup", *GRANTS)


class Seaweed:
    """One store in *data_dir*, with its sockets in *run_dir* (short: a socket path has 107 bytes at most).

    weed: path of the program. cert_file, key_file: PEM; the certificate must name 127.0.0.1. ca_file: what clients
    trust. identities: a key pair for each name in IDENTITIES. inner_key: at least 32 characters; with it the inner HTTP
    ports refuse unsigned reads and writes. The inner gRPC ports trust this machine's own users.
    On SIGTERM the process takes 15 seconds to end (its own grace); what it has acknowledged also survives SIGKILL.
    """

    def __init__(
        self,
        *,
        weed: str,
        data_dir: Path,
        run_dir: Path,
        ports: Ports,
        cert_file: Path,
        key_file: Path,
        ca_file: Path,
        identities: Mapping[str, Identity],
        inner_key: str,
    ) -> None:
        missing = sorted(set(IDENTITIES) - set(identities))
        if missing:
            raise ValueError(f"no key pair for {', '.join(missing)}")
        self.ports = ports
        self.ca_file = ca_file
        self.identities = identities
        self._weed, self._data, self._run = weed, data_dir, run_dir
        self._cert, self._key, self._inner_key = cert_file, key_file, inner_key

    @property
    def endpoint(self) -> str:
        """Where S3 is, e.g. https://127.0.0.1:8333."""
        return f"https://127.0.0.1:{self.ports.s3}"

    @property
    def identities_file(self) -> Path:
        """The identities as the process reads them, mode 0600; written by prepare()."""
        return self._data / "identities.json"

    def prepare(self) -> None:
        """Make the directories (0700) and write the identities; run as the user the process runs as. Repeatable."""
        for directory in (self._data, self._data / "volumes", self._data / "meta", self._run):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.identities_file.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(self._identities_document(), file)
        fresh.replace(self.identities_file)

    def argv(self) -> list[str]:
        """The command line; its working directory has to be *data_dir*, where relative scraps of it would land."""
        ports = self.ports
        options = {
            "dir": self._data / "volumes",
            "master.dir": self._data / "meta",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": ports.master,
            "master.port.grpc": ports.master_grpc,
            "master.telemetry": "false",
            # One master elects itself; with the default of 10 s a restart takes that long.
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 1024,
            "volume.port": ports.volume,
            "volume.port.grpc": ports.volume_grpc,
            # Nothing is preallocated; 0 would count by free disk, and a small disk has too few for every bucket.
            "volume.max": 1000,
            "volume.minFreeSpace": "1",
            "volume.preStopSeconds": 0,
            "filer": "true",
            "filer.port": ports.filer,
            "filer.port.grpc": ports.filer_grpc,
            "filer.localSocket": self._run / "filer.sock",
            "filer.exposeDirectoryData": "false",
            "s3": "true",
            "s3.port": ports.s3,
            "s3.port.grpc": ports.s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.localSocket": self._run / "s3.sock",
            "s3.cert.file": self._cert,
            "s3.key.file": self._key,
            "s3.config": self.identities_file,
        }
        return [self._weed, "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())]

    def env(self) -> dict[str, str]:
        """What its environment needs beside PATH: keys for its inner talk, and a home of its own."""
        names = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
        keys = {f"WEED_{name}_KEY": f"{name}:{self._inner_key}" for name in names}
        # Each bucket and the filer's own log begin with this many volumes instead of seven.
        growth = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "3"}
        return {"HOME": str(self._data), "TMPDIR": str(self._run), **growth, **keys}

    def healthy(self, *, timeout_seconds: float = 2.0) -> str:
        """Whether S3 answers a signed request; "" when it does, else what is wrong in one line."""
        try:
            self._reachable(timeout_seconds)
            self._client("setup", timeout_seconds).list_buckets()
        except (OSError, HTTPException, BotoCoreError, ClientError) as fault:
            return f"S3 at {self.endpoint}: {fault}"
        return ""

    def ready(self, *, timeout_seconds: float = 5.0) -> str:
        """Whether bytes can be written and read back; "" when they can. Needs the buckets.

        After a start S3 answers before the volumes are known again, so wait for this, and watch healthy() afterwards.
        """
        client, target = self._client("setup", timeout_seconds), {"Bucket": "files", "Key": ".ready"}
        try:
            client.put_object(**target, Body=b"ready")
            client.get_object(**target)["Body"].read()
            client.delete_object(**target)
        except (BotoCoreError, ClientError) as fault:
            return f"S3 at {self.endpoint}: {fault}"
        return ""

    def create_buckets(self) -> None:
        """Make the buckets that are missing. Raises botocore's ClientError when the store refuses."""
        client = self._client("setup", 10.0)
        present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in BUCKETS:
            if bucket not in present:
                client.create_bucket(Bucket=bucket)
        _lock(client, "evidence")

    def _reachable(self, timeout_seconds: float) -> None:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = HTTPSConnection("127.0.0.1", self.ports.s3, timeout=timeout_seconds, context=context)
        try:
            connection.request("GET", "/status")
            connection.getresponse().read()
        finally:
            connection.close()

    def _client(self, identity: str, timeout_seconds: float) -> Any:
        pair = self.identities[identity]
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=pair.access_key,
            aws_secret_access_key=pair.secret_key,
            verify=str(self.ca_file),
            config=Config(
                connect_timeout=timeout_seconds,
                read_timeout=timeout_seconds,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    def _identities_document(self) -> dict[str, object]:
        identities: list[dict[str, object]] = [
            {"name": "setup", "credentials": [_credential(self.identities["setup"])], "actions": ["Admin"]}
        ]
        policies = []
        for name, grant in GRANTS.items():
            policy = f"only-{name}"
            pair = _credential(self.identities[name])
            identities.append({"name": name, "credentials": [pair], "actions": [], "policyNames": [policy]})
            policies.append({"name": policy, "content": _policy(grant)})
        return {"identities": identities, "policies": policies}


def _lock(client: Any, bucket: str) -> None:
    """Keep every version of what is put into *bucket* from everybody, also from the identity that made it. Repeatable.

    Tried: in COMPLIANCE mode a version is neither deleted nor its lock shortened before its time, versions cannot be
    suspended, a put of the same key makes another version. A later, weaker default holds for later objects only.
    """
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": EVIDENCE_DAYS}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)


def _credential(pair: Identity) -> dict[str, str]:
    values = asdict(pair)
    return {"accessKey": values["access_key"], "secretKey": values["secret_key"]}


def _policy(grant: Grant) -> str:
    bucket = f"arn:aws:s3:::{grant.bucket}"
    statements = [{"Effect": "Allow", "Action": list(grant.actions), "Resource": [bucket, f"{bucket}/*"]}]
    if grant.deletes:
        statements.append({"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": [f"{bucket}/{grant.deletes}"]})
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
