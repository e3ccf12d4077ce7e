"""The user token and its keys, against an independent implementation and against themselves."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.usertoken import Key, Keys, TokenError, Verifier, derive, parse_keys
from holdfast.usertoken.keys import decode, derive_keys, encode, write_keys
from tests.support import tokens

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = b"r" * 32


def _verifier(keys: Keys | None = None) -> Verifier:
    held = keys or tokens.keys("files")
    return Verifier("files", lambda: held)


def test_a_token_is_a_jwt_as_others_read_it() -> None:
    token = tokens.user_token("files", now=NOW)
    key = tokens.keys("files").current
    read = jwt.decode(
        token, key.secret, ["HS256"], audience="files", options={"verify_exp": False, "verify_iat": False}
    )
    assert (read["sub"], read["iss"]) == ("user1", "holdfast-auth")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": key.kid, "typ": "holdfast-user+jwt"}
    assert (
        _verifier().verify(jwt.encode(read, key.secret, "HS256", jwt.get_unverified_header(token)), NOW).user_id
        == "user1"
    )


@pytest.mark.control("T1", "a key of one audience makes no token that another audience believes")
def test_a_stolen_key_forges_toward_its_own_service_only() -> None:
    stolen = tokens.keys("events").current
    forged = tokens.user_token("files", now=NOW, key=stolen)
    with pytest.raises(TokenError, match="signature"):
        _verifier().verify(forged, NOW)
    assert _verifier().verify(tokens.user_token("files", now=NOW), NOW).user_id == "user1"


def test_a_key_is_hkdf_of_root_kid_and_audience() -> None:
    other = HKDF(SHA256(), 32, b"holdfast-user-token-v1", b"k1\0files").derive(ROOT)
    assert derive(ROOT, "k1", "files") == other
    made = {derive(ROOT, kid, audience) for kid in ("k1", "k2") for audience in ("files", "events", "service/files")}
    assert len(made) == 6


@pytest.mark.parametrize(("root", "kid", "audience"), [(b"short", "k", "a"), (ROOT, "", "a"), (ROOT, "k\0a", "b")])
def test_a_key_is_not_derived_from_too_little(root: bytes, kid: str, audience: str) -> None:
    with pytest.raises(ValueError, match=r"root|non-empty"):
        derive(root, kid, audience)


@pytest.mark.control("T1", "the algorithm, the type and the lifetime are fixed in code")
def test_a_token_holds_until_its_second_and_not_longer_warm_or_cold() -> None:
    token = tokens.user_token("files", now=NOW)
    warm = _verifier()
    last, gone = NOW + timedelta(seconds=59, milliseconds=999), NOW + timedelta(seconds=60)
    for verifier in (warm, _verifier(), warm):
        assert verifier.verify(token, last).user_id == "user1"
    for verifier in (warm, _verifier()):
        with pytest.raises(TokenError, match="expired"):
            verifier.verify(token, gone)


def test_a_changed_bit_is_seen_also_beside_the_warm_token() -> None:
    token, verifier = tokens.user_token("files", now=NOW), _verifier()
    verifier.verify(token, NOW)
    for at in range(0, len(token), 7):
        bent = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(TokenError):
            verifier.verify(bent, NOW)
    with pytest.raises(TokenError):
        verifier.verify(token + "=", NOW)


def test_the_three_generations_are_believed_and_a_dropped_one_is_not_even_from_the_cache() -> None:
    old, new, next_ = (Key(kid, derive(ROOT, kid, "files")) for kid in ("k1", "k2", "k3"))
    held = Keys(old)
    verifier = Verifier("files", lambda: held)
    token = tokens.user_token("files", now=NOW, key=old)
    verifier.verify(token, NOW)
    held = Keys(new, standby=next_, previous=old)
    for key in (old, new, next_):
        verifier.verify(tokens.user_token("files", now=NOW, key=key), NOW)
    held = Keys(next_, previous=new)
    with pytest.raises(TokenError, match="not in use"):
        verifier.verify(token, NOW)


def test_a_full_cache_forgets_and_still_verifies() -> None:
    verifier = _verifier()
    for number in range(8192 + 10):
        verifier.verify(tokens.user_token("files", now=NOW, user=f"u{number}"), NOW)
    assert len(verifier._cache) <= 8192
    assert verifier.verify(tokens.user_token("files", now=NOW, user="u1"), NOW).user_id == "u1"


@pytest.mark.parametrize(
    "bent",
    [{"iat": "1"}, {"exp": 1.5}, {"iat": True}, {"act": "files"}, {"scope": ["a"]}, {"epoch": "0"}, {"role": None}],
)
def test_a_claim_of_another_shape_is_refused(bent: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        _verifier().verify(tokens.user_token("files", now=NOW, **bent), NOW)


def test_a_key_file_says_what_it_says_and_no_secret_prints() -> None:
    keys = derive_keys(Keys(Key("k2", b"2" * 32), Key("k3", b"3" * 32), Key("k1", b"1" * 32)), "files")
    again = parse_keys(write_keys(keys))
    assert again == keys
    assert encode(keys.current.secret) not in repr(keys)
    assert str(keys.current.secret) not in repr(keys)


def _file(**parts: object) -> bytes:
    return json.dumps(parts).encode()


GOOD = {"kid": "k1", "key": encode(b"1" * 32)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "not JSON"), (b"[]", "not a JSON object"), (_file(), "no current"), (_file(current="x"), "object"),
        (_file(current={"kid": "k1", "key": "!!"}), "base64url"),
        (_file(current={"kid": "k1", "key": "AAAA"}), "at least"),
        (_file(current=GOOD, previous=GOOD), "share"),
    ],
)  # fmt: skip
def test_a_bad_key_file_is_refused_with_its_fault(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_keys(text)
    assert parse_keys(_file(current=GOOD)).current.secret == decode(GOOD["key"])
