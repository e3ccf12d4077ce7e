"""Rows of files and objects of their bytes, made without the files service, and a backup service that compares them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from deploy.pgbackrest import conf
from deploy.stack.seaweed import REGION
from tests.support.backup import Archived, Service, own, service_user
from tests.support.seaweed import SeaweedServer

Connection = psycopg.Connection[tuple[object, ...]]
FILE = """
INSERT INTO files.files (organization_id, user_id, id, path, generation, size_bytes, sha256, content_type, created_at,
                         updated_at)
VALUES ('o', 'u', 'f', 'p', 1, 4, sha256(''), '', now(), now())
"""
ROW = """
INSERT INTO files.versions (organization_id, user_id, id, object_id, path, state, declared_bytes, content_type,
                            created_at, expires_at, file_id, size_bytes, sha256, generation, finished_at,
                            key_id, wrapped_key)
VALUES ('o', 'u', %s, 'f', 'p', 'ready', 4, '', now(), now(), 'f', 4, sha256(''), 1, now(), '', '')
"""

BYTES = b"kept" + bytes(16)
"""As long as those of ROW when sealed: four bytes and a tag. Nobody opens them."""


def beside(archived: Archived, seaweed: SeaweedServer, name: str, **settings: str) -> Service:
    """A service, not started, that was given a read-only identity of the store; the store is empty."""
    store, client = seaweed.seaweed, seaweed.client("files")
    # Other tests' objects, which this database has no rows of.
    for one in client.list_objects_v2(Bucket="files").get("Contents", []):
        client.delete_object(Bucket="files", Key=one["Key"])
    authority = own(archived.state / "pki") / "files-ca.pem"
    conf.write(authority, store.ca_file.read_text(), owner=service_user())
    service = Service(
        archived, name, files_endpoint=f"https://localhost:{store.ports.s3}", files_region=REGION,
        files_ca_file=str(authority), **settings,
    )  # fmt: skip
    pair = store.identities["files-read"]
    for secret, value in (("files_access_key", pair.access_key), ("files_secret_key", pair.secret_key)):
        conf.write(service.state / "secrets" / secret, value, owner=service_user())
    return service


@contextmanager
def alone(archived: Archived) -> Iterator[Connection]:
    """A connection whose rows of versions stand alone: no user refers to them, so that nothing else is wrong."""
    with archived.cluster.admin(archived.cluster.database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("CREATE TABLE public.aside AS SELECT * FROM files.versions")
        connection.execute("ALTER TABLE files.versions DROP CONSTRAINT versions_user_fkey")
        connection.execute("ALTER TABLE files.versions DROP CONSTRAINT versions_organization_id_user_id_file_id_fkey")
        try:
            yield connection
        finally:
            # An hour may have begun meanwhile, and with it a mark that counts these rows: no later copy would reach it.
            connection.execute("DELETE FROM backup.marks")
            connection.execute("DELETE FROM files.versions")
            connection.execute("DELETE FROM files.files")
            connection.execute("DROP TABLE public.aside")
            connection.execute(
                "ALTER TABLE files.versions ADD CONSTRAINT versions_user_fkey FOREIGN KEY (organization_id, user_id)"
                " REFERENCES auth.users (organization_id, id),"
                " ADD CONSTRAINT versions_organization_id_user_id_file_id_fkey"
                " FOREIGN KEY (organization_id, user_id, file_id) REFERENCES files.files (organization_id, user_id, id)"
            )
