"""FileService over real gRPC, on a real database and a real SeaweedFS."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from holdfast.files.v1 import file_service_pb2 as pb
from libs.ids import new_id
from libs.principal import User
from tests.support.files import KOREAN, MIB, SECONDS, Files, Person, Service, header, refused, until, uploading


@pytest.mark.control("F1", "names of any language")
async def test_twenty_megabytes_with_a_korean_name_come_back_whole(service: Service) -> None:
    content = os.urandom(20 * MIB)
    person = service.person()
    stored = await person.upload(KOREAN, content, content_type="application/pdf")
    assert (stored.path, stored.size_bytes, stored.generation) == (KOREAN, len(content), 1)
    assert stored.content_type == "application/pdf"
    assert stored.sha256 == hashlib.sha256(content).digest()
    assert hashlib.sha256(await person.download(stored.name)).digest() == stored.sha256


@pytest.mark.control("F1", "a range is exactly its bytes")
@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 0), (3, 5), (9, 0), (9, 100), (0, 10)])
async def test_a_range_is_exactly_its_bytes(service: Service, offset: int, length: int) -> None:
    person = service.person()
    stored = await person.upload("digits", b"0123456789")
    expected = b"0123456789"[offset : offset + length if length else None]
    assert await person.download(stored.name, offset=offset, length=length) == expected


async def test_a_range_behind_the_end_is_refused(service: Service) -> None:
    person = service.person()
    stored = await person.upload("digits", b"0123456789")
    with refused(StatusCode.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE"):
        await person.download(stored.name, offset=10)


async def test_an_empty_file_is_a_file(service: Service) -> None:
    person = service.person()
    stored = await person.upload("empty", b"")
    assert (stored.size_bytes, stored.generation) == (0, 1)
    assert await person.download(stored.name) == b""


@pytest.mark.control("E3", "a stored file and its event are one transaction")
@pytest.mark.control("A1", "storing, reading and deleting a file leave audit rows")
async def test_each_change_leaves_one_event_and_one_audit_row(service: Service) -> None:
    person = service.person()
    first = await person.upload("a/b", b"1")
    second = await person.upload("a/b", b"22")
    await person.download(second.name)
    await person.stub.DeleteFile(pb.DeleteFileRequest(name=second.name))
    assert [kind for kind, _ in service.events(person.who)] == ["file.created", "file.updated", "file.deleted"]
    told = service.events(person.who)[1][1]
    assert (told["name"], told["path"], told["generation"], told["size_bytes"]) == (first.name, "a/b", 2, 2)
    assert service.audit(person.who) == ["file.created", "file.updated", "file.read", "file.deleted"]


@pytest.mark.control("E3", "a stored file and its event are one transaction")
async def test_a_file_whose_event_cannot_be_appended_is_not_stored(service: Service) -> None:
    person = service.person()
    await person.upload("before", b"1")
    service.world.sql(
        "CREATE FUNCTION events.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';"
        "CREATE TRIGGER no BEFORE INSERT ON events.entries FOR EACH ROW EXECUTE FUNCTION events.no()"
    )
    try:
        with refused(StatusCode.INTERNAL, "INTERNAL"):
            await person.upload("during", b"2")
    finally:
        service.world.sql("DROP FUNCTION events.no() CASCADE")
    await person.upload("after", b"3")
    assert await listed(person) == ["after", "before"]
    assert [data["path"] for _, data in service.events(person.who)] == ["before", "after"]
    assert service.audit(person.who) == ["file.created", "file.created"]


async def test_a_second_write_is_the_next_version_and_the_first_one_waits_for_removal(service: Service) -> None:
    person = service.person()
    first = await person.upload("a", b"one")
    second = await person.upload("a", b"two", if_match=first.etag)
    assert (second.name, second.generation) == (first.name, 2)
    assert second.etag != first.etag
    assert await person.download(first.name) == b"two"
    assert [state for state, _, _ in service.versions(person.who)] == ["superseded", "ready"]


@pytest.mark.control("F1", "conditional writes")
async def test_a_condition_that_does_not_hold_changes_nothing(service: Service) -> None:
    person = service.person()
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        await person.upload("a", b"x", if_match="*")
    first = await person.upload("a", b"one", if_none_match="*")
    with refused(StatusCode.ALREADY_EXISTS, "FILE_EXISTS"):
        await person.upload("a", b"x", if_none_match="*")
    await person.upload("a", b"two", if_match=first.etag)
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        await person.upload("a", b"x", if_match=first.etag)
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        await person.stub.DeleteFile(pb.DeleteFileRequest(name=first.name, etag=first.etag))
    assert await person.download(first.name) == b"two"


@pytest.mark.control("F1", "conditional writes")
async def test_of_many_writers_that_may_only_create_exactly_one_does(service: Service) -> None:
    person = service.person()
    contents = [os.urandom(1000) for _ in range(8)]
    answers = await asyncio.gather(
        *(person.upload("raced", content, if_none_match="*") for content in contents), return_exceptions=True
    )
    stored = [answer for answer in answers if isinstance(answer, pb.File)]
    assert len(stored) == 1
    winner = contents[answers.index(stored[0])]
    assert await person.download(stored[0].name) == winner
    assert len(service.events(person.who)) == 1


async def test_many_writers_to_one_path_each_make_a_version_and_lose_none(service: Service) -> None:
    person = service.person()
    stored = await asyncio.gather(*(person.upload("raced", bytes([number]) * 10) for number in range(8)))
    assert sorted(file.generation for file in stored) == list(range(1, 9))
    assert len({file.name for file in stored}) == 1
    newest = max(stored, key=lambda file: file.generation)
    assert hashlib.sha256(await person.download(newest.name)).digest() == newest.sha256
    assert [state for state, _, _ in service.versions(person.who)].count("superseded") == 7


@pytest.mark.control("F2", "the size limit is refused before the body is read")
async def test_a_file_over_the_limit_is_refused_before_a_byte_of_it_is_sent(files: Files) -> None:
    async with files.service(max_file_bytes=1000) as service:
        person = service.person()
        asked = asyncio.Event()

        async def messages() -> AsyncIterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(header=pb.UploadHeader(parent=person.parent, path="big", size_bytes=1001))
            # Held back: the refusal has to come without it.
            await asked.wait()
            yield pb.UploadFileRequest(data=b"x")

        with refused(StatusCode.OUT_OF_RANGE, "FILE_TOO_LARGE"):
            await person.stub.UploadFile(messages(), timeout=SECONDS)
        asked.set()
        assert service.versions(person.who) == []
        assert (await person.upload("fits", bytes(1000))).size_bytes == 1000


@pytest.mark.control("F2", "a stream is stopped at its declared length")
@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_stream_of_another_length_than_declared_is_refused(service: Service, off_by: int) -> None:
    person = service.person()
    declared = header(person.who, "a", bytes(100))
    with refused(StatusCode.INVALID_ARGUMENT, "LENGTH_MISMATCH"):
        await person.stub.UploadFile(uploading(declared, bytes(100 + off_by)))
    assert await listed(person) == []
    assert (await person.stub.UploadFile(uploading(declared, bytes(100)))).file.size_bytes == 100


async def test_bytes_with_another_digest_than_declared_are_refused(service: Service) -> None:
    person = service.person()
    with refused(StatusCode.INVALID_ARGUMENT, "CHECKSUM_MISMATCH"):
        await person.upload("a", b"bent", sha256=hashlib.sha256(b"straight").digest())
    assert await listed(person) == []
    await person.upload("a", b"straight", sha256=hashlib.sha256(b"straight").digest())


async def test_a_stream_without_a_header_or_with_two_is_refused(service: Service) -> None:
    person = service.person()
    first = pb.UploadFileRequest(header=header(person.who, "a", b"xx"))

    async def messages(*sent: pb.UploadFileRequest) -> AsyncIterator[pb.UploadFileRequest]:
        for each in sent:
            yield each

    for sent in ((), (pb.UploadFileRequest(data=b"xx"), first), (first, first)):
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
            await person.stub.UploadFile(messages(*sent))
    assert (await person.stub.UploadFile(messages(first, pb.UploadFileRequest(data=b"xx")))).file.size_bytes == 2


@pytest.mark.parametrize("path", ["../a", "a/../b", "/a", "a//b", "a\\b", "a\0b", "a\nb", ".", "한" * 342])
async def test_a_path_trick_is_refused(service: Service, path: str) -> None:
    person = service.person()
    # Too long and NUL are bounds of every text, told before anybody looks at it as a path.
    reason = "INVALID_ARGUMENT" if len(path.encode()) > 1024 or "\0" in path else "PATH_INVALID"
    with refused(StatusCode.INVALID_ARGUMENT, reason):
        await person.upload(path, b"x")
    assert service.versions(person.who) == []


async def test_anothers_names_are_refused_alike_whether_they_exist_or_not(service: Service) -> None:
    owner = service.person()
    stored = await owner.upload("secret", b"mine")
    same_organization = service.person(service.world.user(owner.who.organization_id))
    for stranger in (service.person(), same_organization):
        for name in (stored.name, f"{owner.parent}/files/{new_id()}"):
            with refused(StatusCode.PERMISSION_DENIED, "FOREIGN_NAME"):
                await stranger.stub.GetFile(pb.GetFileRequest(name=name))
            with refused(StatusCode.PERMISSION_DENIED, "FOREIGN_NAME"):
                await stranger.download(name)
            with refused(StatusCode.PERMISSION_DENIED, "FOREIGN_NAME"):
                await stranger.stub.DeleteFile(pb.DeleteFileRequest(name=name))
        with refused(StatusCode.PERMISSION_DENIED, "FOREIGN_NAME"):
            await stranger.stub.ListFiles(pb.ListFilesRequest(parent=owner.parent))
        with refused(StatusCode.PERMISSION_DENIED, "FOREIGN_NAME"):
            await stranger.stub.UploadFile(uploading(header(owner.who, "secret", b"evil"), b"evil"))
    assert await owner.download(stored.name) == b"mine"


async def test_anothers_file_id_under_the_own_name_is_not_found(service: Service) -> None:
    owner, stranger = service.person(), service.person()
    stored = await owner.upload("secret", b"mine")
    bent = f"{stranger.parent}/files/{stored.name.rpartition('/')[2]}"
    with refused(StatusCode.NOT_FOUND, "FILE_NOT_FOUND"):
        await stranger.download(bent)
    assert await owner.download(stored.name) == b"mine"


@pytest.mark.control("T7", "object keys begin with the user id, whatever the path looks like")
async def test_bytes_lie_under_the_users_own_id_and_nowhere_else(service: Service) -> None:
    person = service.person()
    await person.upload(f"{new_id()}/looks/like/another", b"x")
    ((_, _, key),) = service.versions(person.who)
    assert key.split("/")[0] == person.who.user_id
    assert service.objects(person.who) == {key}


@pytest.mark.control("F1", "list, stat and delete")
async def test_pages_give_every_file_once_in_the_order_of_code_points(service: Service) -> None:
    person = service.person()
    paths = ["a", "a b", "a-b", "a/1", "a/10", "a/2", "ab", "B", "é", "한글", "😀", "z/" + "한" * 340]
    await asyncio.gather(*(person.upload(path, b"x") for path in paths))
    for page_size in (1, 5, 12, 0, 5000):
        assert await listed(person, page_size=page_size) == sorted(paths)
    assert await listed(person, prefix="a/") == ["a/1", "a/10", "a/2"]
    assert await listed(person, prefix="a", page_size=2) == ["a", "a b", "a-b", "a/1", "a/10", "a/2", "ab"]
    assert await listed(person, prefix="%") == []


async def test_a_page_token_of_another_list_or_user_is_refused(service: Service) -> None:
    person, other = service.person(), service.person()
    for each in (person, other):
        await each.upload("a", b"x")
        await each.upload("b", b"x")
    first = await person.stub.ListFiles(pb.ListFilesRequest(parent=person.parent, page_size=1))
    with refused(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        await other.stub.ListFiles(pb.ListFilesRequest(parent=other.parent, page_token=first.next_page_token))
    with refused(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        await person.stub.ListFiles(
            pb.ListFilesRequest(parent=person.parent, page_token=first.next_page_token, path_prefix="a")
        )
    second = await person.stub.ListFiles(
        pb.ListFilesRequest(parent=person.parent, page_token=first.next_page_token, page_size=1)
    )
    assert [file.path for file in second.files] == ["b"]


@pytest.mark.control("F1", "list, stat and delete")
async def test_a_deleted_file_is_gone_at_once_and_its_path_is_free(service: Service) -> None:
    person = service.person()
    stored = await person.upload("a", b"one")
    await person.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name, etag=stored.etag))
    for call in (
        person.stub.GetFile(pb.GetFileRequest(name=stored.name)),
        person.download(stored.name),
        person.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name)),
    ):
        with refused(StatusCode.NOT_FOUND, "FILE_NOT_FOUND"):
            await call
    assert await listed(person) == []
    again = await person.upload("a", b"two")
    assert again.generation == 1
    assert again.name != stored.name
    assert await person.download(again.name) == b"two"


async def test_a_repeated_delete_is_answered_again_and_deletes_once(service: Service) -> None:
    person = service.person()
    stored = await person.upload("a", b"one")
    asked = pb.DeleteFileRequest(name=stored.name, etag=stored.etag, request_id=str(uuid.uuid4()))
    for calls in (5, 1):
        answers = await asyncio.gather(*(person.stub.DeleteFile(asked) for _ in range(calls)))
        assert answers == [pb.DeleteFileResponse()] * calls
    assert [kind for kind, _ in service.events(person.who)] == ["file.created", "file.deleted"]
    assert service.audit(person.who) == ["file.created", "file.deleted"]
    again = await person.upload("a", b"two")
    await person.stub.DeleteFile(asked)
    assert await person.download(again.name) == b"two"
    with refused(StatusCode.NOT_FOUND, "FILE_NOT_FOUND"):
        await person.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name, request_id=str(uuid.uuid4())))


async def test_a_request_id_used_for_another_delete_is_refused_and_deletes_nothing(service: Service) -> None:
    person, request_id = service.person(), str(uuid.uuid4())
    first, second = await person.upload("a", b"one"), await person.upload("b", b"two")
    with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
        await person.stub.DeleteFile(pb.DeleteFileRequest(name=first.name, etag='"x"', request_id=request_id))
    await person.stub.DeleteFile(pb.DeleteFileRequest(name=first.name, request_id=request_id))
    for other in (
        pb.DeleteFileRequest(name=second.name, request_id=request_id),
        pb.DeleteFileRequest(name=first.name, etag=first.etag, request_id=request_id),
    ):
        with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
            await person.stub.DeleteFile(other)
    assert await listed(person) == ["b"]
    await person.stub.DeleteFile(pb.DeleteFileRequest(name=second.name, request_id=str(uuid.uuid4())))
    assert await listed(person) == []


@pytest.mark.control("B8", "object deletes lag the recovery window")
async def test_bytes_of_deleted_and_replaced_files_are_kept_for_the_recovery_window_and_then_removed(
    files: Files,
) -> None:
    async with files.service(recovery_seconds=3600) as service:
        keeper = service.person()
        stored = await keeper.upload("a", b"one")
        await keeper.upload("a", b"two")
        await keeper.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name))
        assert len(service.objects(keeper.who)) == 2
    async with files.service(recovery_seconds=0) as service:
        person = service.person()
        stored = await person.upload("a", b"one")
        await person.upload("a", b"two")
        await until(lambda: len(service.objects(person.who)) == 1)
        assert await person.download(stored.name) == b"two"
        await person.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name))
        await until(lambda: not service.objects(person.who) and not service.versions(person.who))
        assert len(service.objects(keeper.who)) == 2


@pytest.mark.control("F3", "an upload that breaks off is never seen and leaves nothing")
async def test_an_upload_that_breaks_off_is_never_seen_and_its_row_and_bytes_go(files: Files) -> None:
    async with files.service(upload_expiry_seconds=0) as service:
        person = service.person()
        begun = asyncio.Event()

        async def messages() -> AsyncIterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(header=pb.UploadHeader(parent=person.parent, path="a", size_bytes=20 * MIB))
            for _ in range(10):
                yield pb.UploadFileRequest(data=os.urandom(MIB))
            begun.set()
            await asyncio.Event().wait()

        call = person.stub.UploadFile(messages())
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: service.finished_jobs(person.who) == ["expire_upload"] and not service.versions(person.who))
        # The row may have expired before the call was cancelled, which is what ends the upload at the store.
        await until(lambda: open_uploads(service, person.who) == 0)
        assert service.objects(person.who) == set()
        assert await listed(person) == []
        assert service.events(person.who) == []


@pytest.mark.control("F3", "an upload that breaks off is never seen and leaves nothing")
async def test_an_upload_that_outlives_its_row_is_refused_and_leaves_nothing(files: Files) -> None:
    async with files.service(upload_expiry_seconds=0) as service:
        person = service.person()

        async def messages() -> AsyncIterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(header=pb.UploadHeader(parent=person.parent, path="late", size_bytes=4))
            await until(lambda: service.finished_jobs(person.who) == ["expire_upload"])
            yield pb.UploadFileRequest(data=b"late")

        with refused(StatusCode.ABORTED, "UPLOAD_EXPIRED"):
            await person.stub.UploadFile(messages())
        assert service.objects(person.who) == set()
        assert await listed(person) == []


async def listed(person: Person, *, prefix: str = "", page_size: int = 0) -> list[str]:
    paths: list[str] = []
    page_token = ""
    while True:
        page = await person.stub.ListFiles(
            pb.ListFilesRequest(parent=person.parent, path_prefix=prefix, page_size=page_size, page_token=page_token)
        )
        paths += [file.path for file in page.files]
        page_token = page.next_page_token
        if not page_token:
            return paths


def open_uploads(service: Service, who: User) -> int:
    answer = service.seaweed.client("files").list_multipart_uploads(Bucket="files", Prefix=f"{who.user_id}/")
    return len(answer.get("Uploads", []))
