"""PUT, GET and HEAD /v1/files/… over a real socket, on a real database and a real SeaweedFS."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import quote

import pytest
from google.protobuf import json_format
from httpx import Response

from holdfast.files.v1 import file_service_pb2 as pb
from libs.clock import now
from tests.support.files import KOREAN, MIB, Files, Person, Service, token, until


def url(path: str) -> str:
    return f"/v1/files/{quote(path)}"


async def put(person: Person, path: str, content: bytes, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await person.http.put(url(path), content=content, headers=named)


def reason(answer: Response) -> str:
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()["error"]
    assert told["request_id"] == answer.headers["x-request-id"]
    found: str = told["reason"]
    return found


@pytest.mark.control("F1", "names of any language")
async def test_twenty_megabytes_with_a_korean_name_put_by_http_are_the_same_by_grpc(service: Service) -> None:
    content = os.urandom(20 * MIB)
    person = service.person()
    stored = await put(person, KOREAN, content, content_type="application/pdf")
    assert stored.status_code == 201
    answer = await person.http.get(url(KOREAN))
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()
    assert base64.b64decode(stored.json()["sha256"]) == hashlib.sha256(content).digest()
    assert await person.download(stored.json()["name"]) == content
    again = await person.upload(KOREAN, content)
    assert (again.name, again.generation, again.sha256) == (stored.json()["name"], 2, hashlib.sha256(content).digest())


async def test_the_json_of_a_file_is_the_contracts(service: Service) -> None:
    person = service.person()
    stored = await put(person, "a/b.txt", b"x", content_type="text/plain")
    told = (await person.stub.GetFile(pb.GetFileRequest(name=stored.json()["name"]))).file
    assert stored.json() == json_format.MessageToDict(told)
    assert stored.headers["etag"] == told.etag
    assert (await put(person, "a/b.txt", b"y")).status_code == 200


async def test_a_file_is_sent_as_an_attachment_that_no_browser_runs(service: Service) -> None:
    person = service.person()
    await put(person, 'x/보고서 "1"; a=b.html', b"<script>", content_type="text/html; charset=utf-8")
    answer = await person.http.get(url('x/보고서 "1"; a=b.html'))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    plain, exact = answer.headers["content-disposition"].split("; filename*=")
    assert plain == 'attachment; filename="___ _1__ a=b.html"'
    assert exact == "UTF-8''" + quote('보고서 "1"; a=b.html')
    assert (
        answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(b'<script>').digest()).decode()}:"
    )


@pytest.mark.control("F1", "a range is exactly its bytes")
@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", ""),
        ("bytes=4-2", 200, b"0123456789", ""),
        ("lines=1-2", 200, b"0123456789", ""),
    ],
)
async def test_a_range_request_gets_exactly_its_bytes(
    service: Service, asked: str, status: int, body: bytes, told: str
) -> None:
    person = service.person()
    await put(person, "digits", b"0123456789")
    answer = await person.http.get(url("digits"), headers={"range": asked})
    assert (answer.status_code, answer.content, answer.headers.get("content-range", "")) == (status, body, told)
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["accept-ranges"] == "bytes"


async def test_a_range_behind_the_end_is_416_and_tells_the_size(service: Service) -> None:
    person = service.person()
    await put(person, "digits", b"0123456789")
    answer = await person.http.get(url("digits"), headers={"range": "bytes=10-"})
    assert (answer.status_code, reason(answer)) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */10"


async def test_a_range_of_a_version_that_was_replaced_gives_the_whole_new_one(service: Service) -> None:
    person = service.person()
    first = await put(person, "a", b"0123456789")
    wanted = {"range": "bytes=2-4", "if-range": first.headers["etag"]}
    assert (await person.http.get(url("a"), headers=wanted)).content == b"234"
    await put(person, "a", b"abcdefghij")
    answer = await person.http.get(url("a"), headers=wanted)
    assert (answer.status_code, answer.content) == (200, b"abcdefghij")


@pytest.mark.control("F1", "conditional writes")
async def test_conditions_on_a_put_hold_or_change_nothing(service: Service) -> None:
    person = service.person()
    absent = await put(person, "a", b"x", if_match="*")
    assert (absent.status_code, reason(absent)) == (412, "ETAG_MISMATCH")
    first = await put(person, "a", b"one", if_none_match="*")
    assert first.status_code == 201
    taken = await put(person, "a", b"x", if_none_match="*")
    assert (taken.status_code, reason(taken)) == (412, "FILE_EXISTS")
    second = await put(person, "a", b"two", if_match=first.headers["etag"])
    assert second.status_code == 200
    stale = await put(person, "a", b"x", if_match=first.headers["etag"])
    assert (stale.status_code, reason(stale)) == (412, "ETAG_MISMATCH")
    assert (await person.http.get(url("a"))).content == b"two"


async def test_what_the_reader_has_already_is_not_sent_again(service: Service) -> None:
    person = service.person()
    stored = await put(person, "a", b"one")
    etag = stored.headers["etag"]
    for sent in (etag, f'"other", W/{etag}', "*"):
        answer = await person.http.get(url("a"), headers={"if-none-match": sent})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await person.http.get(url("a"), headers={"if-none-match": '"other"'})).content == b"one"
    stale = await person.http.get(url("a"), headers={"if-match": '"other"'})
    assert (stale.status_code, reason(stale)) == (412, "ETAG_MISMATCH")


async def test_head_says_what_get_would_and_is_no_reading(service: Service) -> None:
    person = service.person()
    await put(person, "a", b"0123456789")
    head = await person.http.head(url("a"))
    assert "file.read" not in service.audit(person.who)
    get = await person.http.get(url("a"))
    unlike = {"x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in unlike} == {
        k: v for k, v in get.headers.items() if k not in unlike
    }
    assert (head.status_code, head.content) == (200, b"")
    assert service.audit(person.who).count("file.read") == 1
    assert (await person.http.head(url("absent"))).status_code == 404


async def test_a_body_without_a_declared_length_is_411(service: Service) -> None:
    person = service.person()

    async def chunked() -> AsyncIterator[bytes]:
        yield b"x"

    answer = await person.http.put(url("a"), content=chunked())
    assert (answer.status_code, reason(answer)) == (411, "INVALID_ARGUMENT")
    assert (await person.http.get(url("a"))).status_code == 404


@pytest.mark.control("F2", "the size limit is refused before the body is read")
async def test_a_body_over_the_limit_is_413_before_a_byte_of_it_is_sent(files: Files) -> None:
    async with files.service(max_file_bytes=1000) as service:
        person = service.person()
        head = (
            f"PUT {url('big')} HTTP/1.1\r\nhost: files\r\nx-user-token: {token(person.who)}\r\n"
            "content-length: {}\r\nexpect: 100-continue\r\n\r\n"
        )
        assert await first_line(service, head.format(1001)) == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        assert await first_line(service, head.format(1000)) == b"HTTP/1.1 100 Continue\r\n"
        assert (await put(person, "fits", bytes(1000))).status_code == 201


async def test_a_put_that_is_a_part_or_encoded_is_refused(service: Service) -> None:
    person = service.person()
    for headers in ({"content_range": "bytes 0-1/5"}, {"content_encoding": "gzip"}, {"if_none_match": '"x"'}):
        answer = await put(person, "a", b"xx", **headers)
        assert (answer.status_code, reason(answer)) == (400, "INVALID_ARGUMENT")
    assert (await put(person, "a", b"xx", content_encoding="identity")).status_code == 201


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"%2e%2e/a",
        b"a/%2E%2e/b",
        b"a//b",
        b"a%2f%2fb",
        b"a%5cb",
        b"a%00b",
        b"a%0ab",
        b"%ff",
        b"a/",
        b"%zz",
        b"./a",
        b"a/../b",
    ],
)
async def test_a_path_trick_is_refused(service: Service, target: bytes) -> None:
    person = service.person()
    for method in (b"PUT", b"GET"):
        head = method + b" /v1/files/" + target + b" HTTP/1.1\r\nhost: files\r\ncontent-length: 0\r\nx-user-token: "
        answer = await first_line(service, (head + token(person.who).encode() + b"\r\n\r\n").decode("latin-1"))
        assert answer == b"HTTP/1.1 400 Bad Request\r\n"
    assert service.versions(person.who) == []


async def test_a_path_is_decoded_exactly_once(service: Service) -> None:
    person = service.person()
    stored = await person.http.put("/v1/files/%252e%252e/a%2520b", content=b"x")
    assert stored.json()["path"] == "%2e%2e/a%20b"


async def test_the_same_path_of_two_people_is_two_files(service: Service) -> None:
    owner = service.person()
    stranger = service.person(service.world.user(owner.who.organization_id))
    await put(owner, "same", b"mine")
    assert (await stranger.http.get(url("same"))).status_code == 404
    await put(stranger, "same", b"theirs")
    assert (await owner.http.get(url("same"))).content == b"mine"
    assert (await stranger.http.get(url("same"))).content == b"theirs"


@pytest.mark.control("T2", "the service accepts exactly one value")
async def test_a_token_that_is_not_ours_is_refused_and_the_right_one_is_not(service: Service) -> None:
    person = service.person()
    await put(person, "a", b"x")
    right = token(person.who)
    past = now() - timedelta(minutes=10)
    refused = [
        [],
        [("x-user-token", "")],
        [("x-user-token", right[:-2] + ("EE" if right.endswith("AA") else "AA"))],
        [("x-user-token", token(person.who, audience="events"))],
        [("x-user-token", token(person.who, now=past))],
        [("x-user-token", right), ("x-user-token", right)],
        [("x-user-token", f"{right}, {right}")],
        [("x-user-token", right), ("x-user-token-bin", right)],
        [("authorization", f"Bearer {right}")],
    ]
    async with service.anybody() as client:
        for headers in refused:
            answer = await client.get(url("a"), headers=headers)
            assert answer.status_code == 401, headers
            assert reason(answer) in ("INVALID_USER_TOKEN", "UNAUTHENTICATED")
        assert (await client.get(url("a"), headers=[("x-user-token", right)])).status_code == 200


async def test_what_is_not_served_is_said_so(service: Service) -> None:
    person = service.person()
    assert (await person.http.delete(url("a"))).status_code == 405
    assert (await person.http.get("/v1/other")).status_code == 404
    assert (await person.http.get("/v1/files")).status_code == 404


async def test_a_request_id_is_kept_when_it_is_harmless(service: Service) -> None:
    person = service.person()
    assert (await person.http.get(url("x"), headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert (await person.http.get(url("x"), headers={"x-request-id": "a b"})).headers["x-request-id"] != "a b"


@pytest.mark.control("F3", "an upload that breaks off is never seen and leaves nothing")
async def test_a_put_that_breaks_off_is_never_seen_and_its_row_and_bytes_go(files: Files) -> None:
    async with files.service(upload_expiry_seconds=0) as service:
        person = service.person()
        _, writer = await asyncio.open_unix_connection(service.config.http_address.removeprefix("unix:"))
        head = f"PUT {url('cut')} HTTP/1.1\r\nhost: files\r\nx-user-token: {token(person.who)}\r\n"
        writer.write(f"{head}content-length: {20 * MIB}\r\n\r\n".encode() + os.urandom(9 * MIB))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await until(lambda: service.finished_jobs(person.who) == ["expire_upload"] and not service.versions(person.who))
        assert service.objects(person.who) == set()
        assert (await person.http.get(url("cut"))).status_code == 404


async def first_line(service: Service, request: str) -> bytes:
    """The first line of the answer to *request*, which has no body."""
    reader, writer = await asyncio.open_unix_connection(service.config.http_address.removeprefix("unix:"))
    try:
        writer.write(request.encode("latin-1"))
        async with asyncio.timeout(10):
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()
