"""auth when what it stands on is away, slow, or flooded."""

import asyncio
import json
import os
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from libs.errors import Unavailable
from services.auth.adapters.mail import SmtpMail
from services.auth.domain.mail import Message
from tests.support import people
from tests.support.auth import AUTH, Replica, World, part, refused

UNAUTHENTICATED, EXHAUSTED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED
_ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join((str(_ROOT), str(_ROOT / "libs/client/src")))
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def until_health(replica: Replica, wanted: int) -> None:
    """Follow the health stream until it says *wanted*."""
    watch = replica.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(15):
        async for answer in watch:
            if answer.status == wanted:
                break
    watch.cancel()


async def test_auth_starts_without_its_database_denies_and_recovers_without_a_restart(auth: World) -> None:
    ada = await auth.join()
    sockets = auth.directory / "late"
    replica = await auth.start(False, database_host=sockets)
    try:
        await until_health(replica, NOT_SERVING)
        assert (await replica.as_person(ada)).status == 503
        async with refused(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"):
            await people.sign_in(replica.channel, ada)
        sockets.symlink_to(auth.database.cluster.socket_dir)
        await until_health(replica, SERVING)
        await part(replica.app, "EpochFeed").poll()
        assert (await replica.as_person(ada)).status == 200
        await people.sign_in(replica.channel, ada)
    finally:
        await replica.close()


@pytest.mark.control("I2", "passwords are hashed by argon2id in a bounded pool")
@pytest.mark.parametrize("known", [True, False])
async def test_a_flood_of_passwords_is_refused_alike_for_known_and_unknown_addresses(auth: World, known: bool) -> None:
    ada = await auth.join() if known else people.somebody()
    async with auth.replica(hash_workers=1, hash_queue=1, argon2_time_cost=20) as small:
        request = pb.SignInRequest(email=ada.email, password="not the password")
        stub = AuthServiceStub(small.channel)
        answers = await asyncio.gather(*(stub.SignIn(request) for _ in range(6)), return_exceptions=True)
        codes = [answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert set(codes) == {EXHAUSTED, UNAUTHENTICATED}
        async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
            await stub.SignIn(request)


async def test_a_caller_that_leaves_does_not_free_the_place_its_hash_still_takes(auth: World) -> None:
    async with auth.replica(hash_workers=1, hash_queue=1, argon2_time_cost=60) as small:
        stub = AuthServiceStub(small.channel)
        request = pb.SignInRequest(email="nobody@example.com", password="not the password")
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.SignIn(request, timeout=0.05)
            assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, EXHAUSTED)
        hasher = part(small.app, "Hasher")
        assert hasher._slots.locked()
        async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
            await stub.SignIn(request)


async def test_nobody_can_have_an_address_flooded_with_mail(auth: World) -> None:
    ada = people.somebody()
    for _ in range(7):
        await people.register(auth.one.channel, ada)
    async with asyncio.timeout(20):
        # The queue is the only witness of a mail that is not sent.
        while auth.sql("SELECT 1 FROM jobs.jobs WHERE service = 'auth' AND state IN ('ready', 'scheduled', 'running')"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert len(await people.mailed(auth.mail_dir, ada.email)) == 5
    await people.verify(auth.one.channel, auth.mail_dir, ada)
    await people.sign_in(auth.one.channel, ada)


async def test_a_mail_server_that_is_away_is_worth_another_try() -> None:
    mail = SmtpMail(host="127.0.0.1", port=1, tls="off", sender="a@example.com", timeout_seconds=2)
    with pytest.raises(Unavailable) as caught:
        await mail.send(Message("b@example.com", "subject", "a secret text"))
    assert "secret" not in str(caught.value)


@pytest.mark.control("A4", "a credential does not reach the log")
async def test_no_credential_reaches_the_log(auth: World, capsys: pytest.CaptureFixture[str]) -> None:
    ada = await auth.join()
    people.note(ada, await auth.one.refresh(ada.refresh_token))
    await auth.one.me(ada)
    wrong = pb.SignInRequest(email=ada.email, password="wrong canary word")
    with pytest.raises(grpc.aio.AioRpcError):
        await AuthServiceStub(auth.one.channel).SignIn(wrong)
    await auth.one.check(f"{AUTH}/GetMe", authorization=f"Bearer {ada.refresh_token}")
    told = "".join(capsys.readouterr())
    assert "SignIn" in told
    for canary in (ada.password, ada.email, ada.access_token, ada.refresh_token, ada.csrf_token, wrong.password):
        assert canary not in told


async def test_the_program_checks_itself(auth: World) -> None:
    async def run(environment: dict[str, str]) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.auth", "check", "--json",
            env={**environment, "PYTHONPATH": PYTHONPATH},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    good = auth.settings()
    code, out, err = await run(good)
    assert (code, json.loads(out)["ok"]) == (0, True), err
    code, out, _ = await run({**good, "HOLDFAST_ALLOWED_ORIGINS": "*", "HOLDFAST_ACCESS_SECONDS": "9999"})
    assert code == 78
    assert len(json.loads(out)["faults"]) >= 1
