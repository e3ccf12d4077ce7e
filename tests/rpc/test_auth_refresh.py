"""Refresh tokens: rotation, lost replies, tabs, theft."""

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from holdfast.usertoken import Key, Keys
from holdfast.usertoken.keys import write_keys
from tests.support import people
from tests.support.auth import COOKIE_KEYS, World, refused, write_secrets
from tests.support.people import Person

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def alive(auth: World, who: Person) -> bool:
    """Whether the person's session row is open."""
    return bool(auth.sql("SELECT 1 FROM auth.sessions WHERE id = %s AND ended_at IS NULL", who.session_id))


@pytest.mark.control("S3", "a refresh token is rotated on use and stored as a hash only")
async def test_each_refresh_gives_new_credentials_and_stores_only_digests(auth: World) -> None:
    ada = await auth.join()
    first = ada.refresh_token
    session = await auth.one.refresh(first)
    assert session.refresh_token != first
    assert session.access_token != ada.access_token
    assert session.name.endswith(ada.session_id)
    people.note(ada, session)
    assert (await auth.one.as_person(ada)).status == 200
    row = str(auth.sql("SELECT s::text FROM auth.sessions s WHERE id = %s", ada.session_id))
    for secret in (first, session.refresh_token, session.access_token):
        assert not any(piece in row for piece in secret.split(".") if len(piece) > 40)


@pytest.mark.control("S3", "tabs and lost replies never log a person out")
async def test_many_tabs_that_refresh_at_once_get_the_same_successor(auth: World) -> None:
    ada = await auth.join()
    sessions = await asyncio.gather(*(auth.one.refresh(ada.refresh_token) for _ in range(8)))
    assert len({session.refresh_token for session in sessions}) == 1
    for session in sessions:
        people.note(ada, session)
        assert (await auth.one.as_person(ada)).status == 200
    assert auth.sql("SELECT generation FROM auth.sessions WHERE id = %s", ada.session_id) == [(1,)]


@pytest.mark.control("S3", "tabs and lost replies never log a person out")
async def test_a_lost_reply_is_given_again_however_late_while_the_successor_is_unused(auth: World) -> None:
    ada = await auth.join()
    lost = await auth.one.refresh(ada.refresh_token)
    auth.clock.ahead = timedelta(hours=2)
    try:
        again = await auth.one.refresh(ada.refresh_token)
        assert again.refresh_token == lost.refresh_token
        people.note(ada, again)
        assert (await auth.one.as_person(ada)).status == 200
    finally:
        auth.clock.ahead = timedelta(0)


async def test_a_lost_reply_is_given_again_after_a_key_rotation(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica() as replica:
        lost = await replica.refresh(ada.refresh_token)
        rotated = Keys(Key("c3", b"the cookie key that comes next..3"), previous=COOKIE_KEYS.current)
        write_secrets(Path(replica.config.secrets_dir), cookie_keys=write_keys(rotated))
        again = await replica.refresh(ada.refresh_token)
        assert again.refresh_token == lost.refresh_token
        assert (await replica.refresh(again.refresh_token)).refresh_token.split(".")[1] == "c3"


@pytest.mark.control("S3", "a replayed older token revokes the family, and that commits although the call fails")
async def test_a_parent_that_comes_back_after_its_successor_was_used_ends_the_session(auth: World) -> None:
    ada = await auth.join()
    parent = ada.refresh_token
    people.note(ada, await auth.one.refresh(parent))
    assert (await auth.one.as_person(ada)).status == 200
    auth.clock.ahead = timedelta(seconds=11)
    try:
        async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
            await auth.one.refresh(parent)
    finally:
        auth.clock.ahead = timedelta(0)
    assert auth.sql("SELECT ended_why FROM auth.sessions WHERE id = %s", ada.session_id) == [("refresh_token_reused",)]
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
        await auth.one.refresh(ada.refresh_token)
    entries = auth.sql(
        "SELECT outcome FROM audit.entries WHERE action = 'session.refresh_token_reused' AND actor_id = %s", ada.user_id
    )
    assert entries == [("failure",)]


@pytest.mark.control("S3", "a replayed older token revokes the family, and that commits although the call fails")
async def test_a_grandparent_ends_the_session_at_once(auth: World) -> None:
    ada = await auth.join()
    first = ada.refresh_token
    second = (await auth.one.refresh(first)).refresh_token
    third = (await auth.one.refresh(second)).refresh_token
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
        await auth.one.refresh(first)
    for token in (first, second, third):
        async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await auth.one.refresh(token)
    assert not await alive(auth, ada)


async def test_a_thief_and_the_owner_cannot_go_on_side_by_side(auth: World) -> None:
    ada = await auth.join()
    stolen = ada.refresh_token
    people.note(ada, await auth.one.refresh(ada.refresh_token))
    thief = (await auth.one.refresh(stolen)).refresh_token
    assert thief == ada.refresh_token
    await auth.one.refresh(thief)
    await auth.one.refresh(ada.refresh_token)
    people.note(ada, await auth.one.refresh((await auth.one.refresh(ada.refresh_token)).refresh_token))
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
        await auth.one.refresh(thief)


async def test_reuse_ends_that_session_only(auth: World) -> None:
    ada = await auth.join()
    other = Person(ada.email, ada.password)
    await people.sign_in(auth.one.channel, other)
    first = ada.refresh_token
    for _ in range(2):
        people.note(ada, await auth.one.refresh(ada.refresh_token))
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
        await auth.one.refresh(first)
    assert await alive(auth, other)
    await auth.one.refresh(other.refresh_token)


@pytest.mark.parametrize("token", ["", "nonsense", "r1." + "x" * 300])
async def test_what_is_no_refresh_token_is_refused(auth: World, token: str) -> None:
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
        await auth.one.refresh(token)


async def test_a_bent_token_is_refused_and_ends_nothing(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    parts = ada.refresh_token.split(".")
    for place, piece in ((2, bo.organization_id), (3, bo.user_id), (4, bo.session_id), (5, "7")):
        bent = [*parts[:place], piece, *parts[place + 1 :]]
        async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await auth.one.refresh(".".join(bent))
    async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
        await auth.one.refresh(ada.access_token)
    assert await alive(auth, ada)
    assert await alive(auth, bo)
    await auth.one.refresh(ada.refresh_token)


@pytest.mark.control("S2", "a session ends after 24 hours, or 7 days when remembered, and when idle")
async def test_a_session_ends_by_age_and_by_idling(auth: World) -> None:
    ada, bo, cy = await auth.join(), await auth.join("bo"), await auth.join("cy")
    await people.sign_in(auth.one.channel, cy, remember=True)
    try:
        auth.clock.ahead = timedelta(hours=11)
        people.note(ada, await auth.one.refresh(ada.refresh_token))
        auth.clock.ahead = timedelta(hours=12, seconds=1)
        async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await auth.one.refresh(bo.refresh_token)
        auth.clock.ahead = timedelta(hours=22)
        people.note(ada, await auth.one.refresh(ada.refresh_token))
        auth.clock.ahead = timedelta(hours=24, seconds=1)
        async with refused(UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await auth.one.refresh(ada.refresh_token)
        people.note(cy, await auth.one.refresh(cy.refresh_token))
    finally:
        auth.clock.ahead = timedelta(0)
