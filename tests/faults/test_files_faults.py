"""The files service killed, stopped and left without its object store: nothing acknowledged is lost or stuck."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from holdfast.files.v1 import file_service_pb2 as pb
from tests.support.files import MIB, Files, Person, Service, refused, serving, until


class Body:
    """20 MiB that stop half-way until told to go on."""

    def __init__(self) -> None:
        self.content = os.urandom(20 * MIB)
        self.half_way, self.go_on = asyncio.Event(), asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        for number in range(20):
            if number == 10:
                self.half_way.set()
                await self.go_on.wait()
            yield self.content[number * MIB : (number + 1) * MIB]


class Upload(Body):
    """An upload of such a body by gRPC."""

    def __init__(self, person: Person, path: str) -> None:
        super().__init__()
        self._header = pb.UploadHeader(parent=person.parent, path=path, size_bytes=len(self.content))
        self.call = person.stub.UploadFile(self._messages())

    async def _messages(self) -> AsyncIterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(header=self._header)
        async for chunk in self.chunks():
            yield pb.UploadFileRequest(data=chunk)


@pytest.mark.control("F3", "a process crash loses nothing that was acknowledged")
async def test_a_service_killed_in_an_upload_loses_nothing_acknowledged_and_leaves_nothing_behind(files: Files) -> None:
    async with files.process() as (service, process):
        person = service.person()
        kept = await person.upload("kept", b"acknowledged")
        cut = Upload(person, "cut")
        await cut.half_way.wait()
        await until(lambda: open_parts(service, person) > 0)
        process.send_signal(signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            await cut.call
    async with files.service() as again:
        person = again.person(person.who)
        assert await person.download(kept.name) == b"acknowledged"
        assert open_parts(again, person) == 1
        again.world.sql("UPDATE jobs.jobs SET run_at = clock_timestamp() WHERE user_id = %s", person.who.user_id)
        await until(lambda: [path for _, path, _ in again.versions(person.who)] == ["kept"])
        assert open_parts(again, person) == 0
        assert len(again.objects(person.who)) == 1
        page = await person.stub.ListFiles(pb.ListFilesRequest(parent=person.parent))
        assert [file.path for file in page.files] == ["kept"]
        assert [data["path"] for _, data in again.events(person.who)] == ["kept"]


@pytest.mark.control("F3", "a stop signal lets running uploads finish")
async def test_a_stop_signal_lets_uploads_under_way_finish(files: Files) -> None:
    async with files.process() as (service, process):
        person = service.person()
        uploads = [Upload(person, f"under way {number}") for number in range(3)]
        body = Body()
        length = {"content-length": str(len(body.content))}
        putting = asyncio.create_task(person.http.put("/v1/files/by put", content=body.chunks(), headers=length))
        for under_way in (*uploads, body):
            await under_way.half_way.wait()
        await until(lambda: len(service.versions(person.who)) == 4)
        watched = asyncio.create_task(serving(service.config, wanted="NOT_SERVING"))
        process.send_signal(signal.SIGTERM)
        await watched
        for under_way in (*uploads, body):
            under_way.go_on.set()
        stored = [(await upload.call).file for upload in uploads]
        assert (await putting).status_code == 201
        assert await asyncio.to_thread(process.wait) == 0
    async with files.service() as again:
        person = again.person(person.who)
        for upload, file in zip(uploads, stored, strict=True):
            assert file.sha256 == hashlib.sha256(upload.content).digest()
            assert await person.download(file.name) == upload.content
        assert (await person.http.get("/v1/files/by put")).content == body.content


async def test_check_names_what_is_wrong_and_passes_when_nothing_is(files: Files) -> None:
    async def checked(**settings: object) -> tuple[int, dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.files", "check", "--json",
            env=files.program_environment(files.environment(settings)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, json.loads(out)

    assert await checked() == (0, {"ok": True, "service": "files", "faults": []})
    code, told = await checked(s3_bucket="absent")
    assert (code, told["ok"]) == (1, False)
    assert told["faults"] == ["S3Objects: The object store cannot be reached."]
    code, told = await checked(s3_endpoint="http://127.0.0.1:1", max_file_bytes=0)
    assert code == 78
    assert len(told["faults"]) == 1


async def test_without_its_object_store_the_service_says_so_and_recovers_by_itself(files: Files) -> None:
    async with files.service() as service:
        person = service.person()
        stored = await person.upload("a", b"here")
        service.seaweed.kill()
        try:
            await serving(service.config, wanted="NOT_SERVING")
            with refused(StatusCode.UNAVAILABLE, "UNAVAILABLE"):
                await person.upload("b", b"lost")
            with refused(StatusCode.UNAVAILABLE, "UNAVAILABLE"):
                await person.download(stored.name)
            answer = await person.http.get("/v1/files/a")
            assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
            # What needs no bytes goes on.
            assert (await person.stub.GetFile(pb.GetFileRequest(name=stored.name))).file.path == "a"
        finally:
            await asyncio.to_thread(service.seaweed.start)
        await serving(service.config)
        assert await person.download(stored.name) == b"here"
        assert (await person.upload("b", b"found")).generation == 1


def open_parts(service: Service, person: Person) -> int:
    answer = service.seaweed.client("files").list_multipart_uploads(Bucket="files", Prefix=f"{person.who.user_id}/")
    return len(answer.get("Uploads", []))
