"""The identities of the object store on the real thing: each may do its own work and nothing else."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deploy.stack.seaweed import BUCKETS, REGION
from tests.support.seaweed import SeaweedServer


def refused(call: Any, **arguments: str | bytes) -> bool:
    try:
        call(**arguments)
    except ClientError as fault:
        return str(fault.response["Error"]["Code"]) in {"AccessDenied", "403"}
    return False


@pytest.mark.control("F4", "users' keys lie outside the database, in a bucket and with an identity of their own")
@pytest.mark.parametrize(
    ("identity", "own_bucket"), [("files", "files"), ("files-keys", "keys"), ("backups-keeper", "backups")]
)
def test_an_identity_reads_writes_and_deletes_in_its_own_bucket_only(
    seaweed: SeaweedServer, identity: str, own_bucket: str
) -> None:
    s3 = seaweed.client(identity)
    for bucket in BUCKETS:
        own = bucket == own_bucket
        assert refused(s3.put_object, Bucket=bucket, Key="a/b", Body=b"1") is not own
        assert refused(s3.get_object, Bucket=bucket, Key="a/b") is not own
        assert refused(s3.list_objects_v2, Bucket=bucket) is not own
        assert refused(s3.delete_object, Bucket=bucket, Key="a/b") is not own
    assert refused(s3.create_bucket, Bucket="another")


@pytest.mark.control("B1", "production may add to the repository and not delete its history")
def test_production_adds_to_the_repository_and_only_the_keeper_deletes_from_it(seaweed: SeaweedServer) -> None:
    production, keeper = seaweed.client("backups"), seaweed.client("backups-keeper")
    key = "pgbackrest/backup/holdfast/20261122-000102F/bundle/1"
    production.put_object(Bucket="backups", Key=key, Body=b"1")
    assert production.get_object(Bucket="backups", Key=key)["Body"].read() == b"1"
    assert refused(production.delete_object, Bucket="backups", Key=key)
    several = {"Objects": [{"Key": key}]}
    answer = production.delete_objects(Bucket="backups", Delete=several)
    assert [one["Key"] for one in answer.get("Errors", [])] == [key]
    assert production.get_object(Bucket="backups", Key=key)["Body"].read() == b"1"
    assert not refused(keeper.delete_object, Bucket="backups", Key=key)
    assert production.list_objects_v2(Bucket="backups", Prefix=key)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("identity", "writer", "bucket"),
    [
        ("backups-read", "backups", "backups"),
        ("files-read", "files", "files"),
        ("files-keys-read", "files-keys", "keys"),
    ],
)
def test_a_reader_reads_its_bucket_but_neither_writes_nor_deletes(
    seaweed: SeaweedServer, identity: str, writer: str, bucket: str
) -> None:
    seaweed.client(writer).put_object(Bucket=bucket, Key="a/read", Body=b"1")
    reader = seaweed.client(identity)
    assert reader.get_object(Bucket=bucket, Key="a/read")["Body"].read() == b"1"
    assert refused(reader.put_object, Bucket=bucket, Key="a/read", Body=b"2")
    assert refused(reader.delete_object, Bucket=bucket, Key="a/read")
    assert reader.get_object(Bucket=bucket, Key="a/read")["Body"].read() == b"1"
    for other in BUCKETS:
        assert refused(reader.list_objects_v2, Bucket=other) is (other != bucket)


def test_the_evidence_identity_puts_and_can_neither_read_list_nor_delete(seaweed: SeaweedServer) -> None:
    s3 = seaweed.client("evidence")
    assert not refused(s3.put_object, Bucket="evidence", Key="seal/1", Body=b"1")
    assert refused(s3.get_object, Bucket="evidence", Key="seal/1")
    assert refused(s3.list_objects_v2, Bucket="evidence")
    assert refused(s3.delete_object, Bucket="evidence", Key="seal/1")


def test_an_unsigned_request_and_a_wrong_secret_are_refused(seaweed: SeaweedServer) -> None:
    assert seaweed.seaweed.healthy() == ""
    wrong = boto3.session.Session().client(
        "s3",
        endpoint_url=seaweed.seaweed.endpoint,
        region_name=REGION,
        aws_access_key_id=seaweed.seaweed.identities["files"].access_key,
        aws_secret_access_key="0" * 40,
        verify=str(seaweed.seaweed.ca_file),
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        wrong.list_objects_v2(Bucket="files")
