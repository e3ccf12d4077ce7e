"""When a version may become the newest one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.errors import InvalidArgument
from services.files.domain import file as decide
from services.files.domain.errors import EtagMismatch, FileExists, FileNotFound, FileTooLarge, UploadExpired
from services.files.domain.file import Conditions, Declaration, File, Received, State, Version

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def stored(**changes: Any) -> File:
    values: dict[str, Any] = {
        "id": "f1", "organization_id": "o1", "user_id": "u1", "path": "a", "generation": 3, "version_id": "v3",
        "size_bytes": 4, "sha256": bytes(32), "content_type": "text/plain", "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return File(**values | changes)


def begun() -> Version:
    owner, ids, key = ("o1", "u1"), ("v4", "f1"), ("k1", bytes(60))
    return decide.pending(Declaration("a", 4), owner=owner, ids=ids, key=key, now=NOW, life=timedelta(hours=1))


@pytest.mark.control("F2", "the size limit is refused before the body is read")
def test_the_limit_itself_is_admitted_and_one_byte_more_is_not() -> None:
    decide.admit(Declaration("a", 100), limit_bytes=100)
    with pytest.raises(FileTooLarge) as refused:
        decide.admit(Declaration("a", 101), limit_bytes=100)
    assert refused.value.facts == {"size_bytes": "101", "limit_bytes": "100"}


@pytest.mark.parametrize("kind", ["text", "", "/", "text/", "a/b\r\nx: y", "a/b\n", "text/плэйн", "a/b; " + "x" * 300])
def test_what_is_no_media_type_is_refused(kind: str) -> None:
    decide.admit(Declaration("a", 1, content_type='text/plain; charset="utf-8"'), limit_bytes=1)
    with pytest.raises(InvalidArgument):
        decide.admit(Declaration("a", 1, content_type=kind), limit_bytes=1)


@pytest.mark.parametrize(
    "conditions",
    [Conditions(), Conditions(if_match='"v3"'), Conditions(if_match="*"), Conditions(if_match='"v1", "v3"')],
)
def test_conditions_that_hold_let_the_write_through(conditions: Conditions) -> None:
    decide.check(conditions, stored())


@pytest.mark.parametrize(
    ("conditions", "present", "error"),
    [
        (Conditions(if_match='"v2"'), stored(), EtagMismatch),
        (Conditions(if_match='W/"v3"'), stored(), EtagMismatch),
        (Conditions(if_match="*"), None, EtagMismatch),
        (Conditions(if_match='"v3"'), None, EtagMismatch),
        (Conditions(if_none_match="*"), stored(), FileExists),
    ],
)
def test_conditions_that_do_not_hold_refuse_the_write(
    conditions: Conditions, present: File | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        decide.check(conditions, present)


def test_a_committed_version_is_the_newest_and_one_generation_on() -> None:
    version, file = decide.commit(begun(), stored(), Received(4, b"s" * 32), now=NOW)
    assert (version.state, version.file_id, version.generation, version.sha256) == (State.READY, "f1", 4, b"s" * 32)
    assert (file.generation, file.version_id, file.sha256, file.etag) == (4, "v4", b"s" * 32, '"v4"')


def test_a_version_that_is_not_pending_is_never_committed() -> None:
    ready, _ = decide.commit(begun(), stored(), Received(4, b"s" * 32), now=NOW)
    with pytest.raises(UploadExpired):
        decide.commit(ready, stored(), Received(4, b"s" * 32), now=NOW)


def test_a_deleted_file_is_a_tombstone_and_a_stale_etag_deletes_nothing() -> None:
    assert decide.delete(stored(), if_match='"v3"', now=NOW).deleted_at == NOW
    with pytest.raises(EtagMismatch):
        decide.delete(stored(), if_match='"v2"', now=NOW)
    with pytest.raises(FileNotFound):
        decide.delete(None, if_match="", now=NOW)
