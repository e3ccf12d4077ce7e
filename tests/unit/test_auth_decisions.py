"""auth's pure decisions: passwords, addresses, locks, origins, credentials, and what an old refresh token means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.auth.domain import csrf, email, exchange, origin, password
from services.auth.domain.credential import (
    AccessHandle,
    RefreshToken,
    open_access,
    open_refresh,
    seal_access,
    seal_refresh,
    successor,
)
from services.auth.domain.errors import EmailRefused, PasswordRefused
from services.auth.domain.keyring import Key, Keyring, base64, parse, unbase64
from services.auth.domain.origin import From
from services.auth.domain.people import LOCKED_FOR, Account, failed, locked, succeeded
from services.auth.domain.session import REUSE_WINDOW, Lifetimes, Session, Verdict, ended, judge, rotated

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEW, OLD, OTHER = (Key(kid, bytes([n]) * 32) for n, kid in enumerate(("new", "old", "other"), start=1))
RING = Keyring(NEW, previous=OLD)
HANDLE = AccessHandle("org1", "user1", "session1", 3, NOW + timedelta(minutes=30), "unique1")
TOKEN = RefreshToken("org1", "user1", "session1", 3, b"s" * 32)
LIFETIMES = Lifetimes(
    access=timedelta(minutes=30),
    absolute=timedelta(hours=24),
    remembered=timedelta(days=7),
    idle=timedelta(hours=12),
    remembered_idle=timedelta(days=3),
)


class TestPassword:
    @pytest.mark.parametrize(
        "text", ["tremendous otter 7", "한국어비밀번호열두자", "x9$kQ2!m", "a" * 5 + "bcd efg hij"]
    )
    def test_a_good_one_is_accepted(self, text: str) -> None:
        assert password.accept(text) == text

    @pytest.mark.control("I2", "common passwords are refused")
    @pytest.mark.parametrize(
        "text",
        ["password", "Password1!", "P@ssw0rd123", "qwertyuiop", "1q2w3e4r", "12345678", "aaaaaaaa", "abcabcabcabc",
         "iloveyou99", "letmein2024", "SunshineMonday", "dragon12345", "87654321", "Holdfast2026!"],
    )  # fmt: skip
    def test_one_that_is_tried_first_is_refused(self, text: str) -> None:
        with pytest.raises(PasswordRefused) as caught:
            password.accept(text)
        assert not caught.value.facts

    @pytest.mark.control("I2", "a password has 8 to 128 code points")
    def test_its_length_is_counted_in_code_points(self) -> None:
        assert password.accept("ж" * 4 + "qwё!")
        assert password.accept("pq" * 3 + "z" * 122)
        for text in ("ж" * 3 + "qwё!", "pq" * 3 + "z" * 123):
            with pytest.raises(PasswordRefused):
                password.accept(text)

    def test_two_spellings_of_the_same_letters_are_one_password(self) -> None:
        assert password.normal("cafe\u0301 secret") == password.normal("caf\u00e9 secret")

    def test_the_address_itself_is_refused(self) -> None:
        with pytest.raises(PasswordRefused):
            password.accept("ada.lovelace", email="Ada.Lovelace@example.com")
        assert password.accept("ada.lovelace", email="bo@example.com")


class TestEmail:
    @pytest.mark.parametrize("text", ["ada@example.com", "o'neil+tag@sub.example.co.uk", "후안@example.com"])
    def test_an_address_is_accepted(self, text: str) -> None:
        assert email.accept(f" {text} ") == text

    @pytest.mark.control("I4", "an address that is none, or a throw-away one, is refused")
    @pytest.mark.parametrize(
        "text",
        ["", "ada", "ada@", "@example.com", "a b@example.com", "ada@example", "ada@example..com",
         "Ada <ada@example.com>",
         "ada@example.com\r\nBcc: x@y.z", "a@mailinator.com", "a@inbox.mailinator.com", f"{'a' * 65}@example.com",
         f"ada@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 12}.com", "ada@[127.0.0.1]", "ada@localhost"],
    )  # fmt: skip
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        with pytest.raises(EmailRefused):
            email.accept(text)

    def test_spellings_of_one_mailbox_share_a_key(self) -> None:
        assert email.key("Ada@EXAMPLE.com") == email.key(" ada@example.com") != email.key("adb@example.com")
        assert email.key("a@xn--bcher-kva.example") == email.key("A@Bücher.example")
        assert email.key("anything at all") == "anything at all"


class TestLock:
    ACCOUNT = Account("a1", "ada@example.com", NOW, "Ada", "hash", 0, None, None)

    @pytest.mark.control("I3", "five failures in a row lock the account for fifteen minutes")
    def test_the_fifth_failure_locks_for_fifteen_minutes(self) -> None:
        account = self.ACCOUNT
        for _ in range(4):
            account = failed(account, now=NOW)
            assert not locked(account, now=NOW)
        account = failed(account, now=NOW)
        assert locked(account, now=NOW + LOCKED_FOR - timedelta(seconds=1))
        assert not locked(account, now=NOW + LOCKED_FOR)

    def test_failures_while_locked_do_not_prolong_the_lock(self) -> None:
        account = replace(self.ACCOUNT, failed_attempts=5, locked_until=NOW + LOCKED_FOR)
        assert failed(account, now=NOW + timedelta(minutes=14)) == account

    def test_after_the_lock_the_count_begins_anew(self) -> None:
        account = failed(replace(self.ACCOUNT, failed_attempts=5, locked_until=NOW), now=NOW)
        assert (account.failed_attempts, account.locked_until) == (1, None)

    def test_success_clears_the_count(self) -> None:
        assert succeeded(failed(self.ACCOUNT, now=NOW)) == self.ACCOUNT


class TestOrigin:
    ALLOWED = frozenset({("https", "app.example.com", 443), ("http", "127.0.0.1", 8080)})

    @pytest.mark.parametrize(
        "said", ["https://app.example.com", "https://APP.example.com:443", "http://127.0.0.1:8080"]
    )
    def test_a_listed_origin_is_allowed(self, said: str) -> None:
        assert origin.classify(said, "", self.ALLOWED) is From.ALLOWED

    @pytest.mark.control("S6", "an Origin is compared by scheme, host and port exactly")
    @pytest.mark.parametrize(
        "said",
        ["https://app.example.com.evil.tld", "https://evil.tld", "http://app.example.com", "https://app.example.com:8443",
         "https://app.example.com/", "https://app.example.com@evil.tld", "https://x@app.example.com", "null", "https://",
         "app.example.com", "https://app.example.com, https://evil.tld", "https://app.example.com:99999", "file://",
         "https://ap\u0440.example.com", "https://app.example.com:", "https://[::1", "*"],
    )  # fmt: skip
    def test_anything_else_is_foreign(self, said: str) -> None:
        assert origin.classify(said, "", self.ALLOWED) is From.FOREIGN

    def test_the_referer_counts_only_without_an_origin(self) -> None:
        listed, evil = "https://app.example.com/page?x=1", "https://evil.tld/https://app.example.com/"
        assert origin.classify("", listed, self.ALLOWED) is From.ALLOWED
        assert origin.classify("", evil, self.ALLOWED) is From.FOREIGN
        assert origin.classify("https://evil.tld", listed, self.ALLOWED) is From.FOREIGN
        assert origin.classify("", "", self.ALLOWED) is From.UNSAID


class TestCredential:
    def test_a_handle_reads_back(self) -> None:
        assert open_access(seal_access(HANDLE, RING), RING, now=NOW) == HANDLE

    @pytest.mark.control("S1", "credentials are signed with a rotating key list")
    def test_the_previous_key_still_counts_and_a_withdrawn_one_does_not(self) -> None:
        before = seal_access(HANDLE, Keyring(OLD))
        assert open_access(before, RING, now=NOW) == HANDLE
        assert open_access(before, Keyring(NEW, standby=OTHER), now=NOW) is None
        assert open_access(seal_access(HANDLE, Keyring(Key("new", OTHER.secret))), RING, now=NOW) is None

    def test_an_expired_handle_is_none(self) -> None:
        text = seal_access(HANDLE, RING)
        assert open_access(text, RING, now=HANDLE.expires_at - timedelta(seconds=1)) is not None
        assert open_access(text, RING, now=HANDLE.expires_at) is None

    @pytest.mark.parametrize("place", range(9))
    def test_no_part_of_a_handle_can_be_changed(self, place: int) -> None:
        parts = seal_access(HANDLE, RING).split(".")
        parts[place] = parts[place][:-1] + ("2" if parts[place][-1] != "2" else "3")
        assert open_access(".".join(parts), RING, now=NOW) is None

    @pytest.mark.parametrize(
        "text", ["", ".", "a1", "x" * 601, "a1.new.o.u.s.0.1.j.", "a1.new.O.u.s.0.1.j." + "A" * 43, "á" * 50]
    )
    def test_what_is_no_handle_is_none(self, text: str) -> None:
        assert open_access(text, RING, now=NOW) is None
        assert open_refresh(text, RING) is None

    def test_a_mac_has_one_spelling(self) -> None:
        text = seal_access(HANDLE, RING)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        twins = [text[:-1] + alphabet[(alphabet.index(text[-1]) // 4) * 4 + n] for n in range(4)]
        assert sum(open_access(twin, RING, now=NOW) is not None for twin in twins) == 1
        assert text in twins

    def test_a_refresh_token_is_no_access_handle_nor_the_other_way(self) -> None:
        assert open_refresh(seal_refresh(TOKEN, RING, "new"), RING) == TOKEN
        assert open_access(seal_refresh(TOKEN, RING, "new"), RING, now=NOW) is None
        assert open_refresh(seal_access(HANDLE, RING), RING) is None

    def test_the_successor_is_the_same_whoever_asks_and_needs_both_secrets(self) -> None:
        first = successor(TOKEN, RING, "new")
        assert first == successor(TOKEN, Keyring(NEW), "new")
        assert (first.generation, len(first.opaque)) == (4, 32)
        assert first.opaque != successor(replace(TOKEN, opaque=b"t" * 32), RING, "new").opaque
        assert first.opaque != successor(TOKEN, RING, "old").opaque

    def test_nothing_secret_is_printed(self) -> None:
        assert base64(TOKEN.opaque) not in repr(TOKEN)
        assert "ssss" not in repr(TOKEN)
        assert repr(NEW.secret) not in repr(NEW)


class TestRefresh:
    SESSION = Session(
        organization_id="o", user_id="u", id="s", delivery="TOKENS", remembered=False, operator=False, user_epoch=0,
        organization_epoch=0, installation_epoch=0, generation=5, refresh_digest=b"5", refresh_kid="new",
        rotated_at=NOW, seen_at=None, idle_expires_at=NOW + timedelta(hours=12), expires_at=NOW + timedelta(hours=24),
        created_at=NOW,
    )  # fmt: skip
    LATER = NOW + REUSE_WINDOW + timedelta(seconds=1)

    def test_the_newest_rotates(self) -> None:
        assert judge(self.SESSION, 5, b"5", now=NOW) is Verdict.ROTATE

    def test_another_historys_token_of_the_same_generation_is_unknown(self) -> None:
        assert judge(self.SESSION, 5, b"x", now=NOW) is Verdict.UNKNOWN
        assert judge(self.SESSION, 6, b"6", now=NOW) is Verdict.UNKNOWN

    def test_the_parent_is_answered_again_while_its_child_is_unused(self) -> None:
        assert judge(self.SESSION, 4, b"4", now=NOW + timedelta(hours=3)) is Verdict.REPEAT

    def test_the_parent_is_answered_again_for_a_short_while_after_its_child_was_used(self) -> None:
        used = replace(self.SESSION, seen_at=NOW)
        assert judge(used, 4, b"4", now=NOW + REUSE_WINDOW) is Verdict.REPEAT
        assert judge(used, 4, b"4", now=self.LATER) is Verdict.REUSED

    def test_the_grandparent_is_reuse_at_once(self) -> None:
        assert judge(self.SESSION, 3, b"3", now=NOW) is Verdict.REUSED

    @pytest.mark.control("S3", "a refresh token never outlives its session")
    def test_idle_time_begins_anew_and_never_outlives_the_session(self) -> None:
        soon = rotated(self.SESSION, digest=b"6", kid="new", lifetimes=LIFETIMES, now=NOW + timedelta(hours=6))
        late = rotated(self.SESSION, digest=b"6", kid="new", lifetimes=LIFETIMES, now=NOW + timedelta(hours=20))
        assert soon.idle_expires_at == NOW + timedelta(hours=18)
        assert late.idle_expires_at == self.SESSION.expires_at
        assert (soon.generation, soon.seen_at) == (6, None)

    def test_ending_twice_keeps_the_first_end(self) -> None:
        first = ended(self.SESSION, "signed_out", now=NOW)
        assert ended(first, "other", now=self.LATER) is first


class TestCsrf:
    KEY = Key("csrf", b"k" * 32)

    def test_a_token_holds_for_its_session_for_half_an_hour(self) -> None:
        token = csrf.issue(self.KEY, user_id="u", session_id="s", now=NOW)
        assert csrf.valid(self.KEY, token, user_id="u", session_id="s", now=NOW + timedelta(minutes=30))
        assert not csrf.valid(self.KEY, token, user_id="u", session_id="s", now=NOW + timedelta(minutes=30, seconds=2))

    @pytest.mark.control("S6", "a CSRF token is bound to user and session")
    def test_it_holds_for_nobody_else(self) -> None:
        token = csrf.issue(self.KEY, user_id="u", session_id="s", now=NOW)
        assert not csrf.valid(self.KEY, token, user_id="u", session_id="s2", now=NOW)
        assert not csrf.valid(self.KEY, token, user_id="u2", session_id="s", now=NOW)
        assert not csrf.valid(Key("csrf", b"j" * 32), token, user_id="u", session_id="s", now=NOW)
        assert not csrf.valid(self.KEY, token, user_id="u", session_id="s", now=NOW - timedelta(minutes=1))
        for bent in ("", token[:-1], token.replace(".", ".1", 1), token + "x", "a.b.c"):
            assert not csrf.valid(self.KEY, bent, user_id="u", session_id="s", now=NOW)


class TestKeyring:
    def entry(self, kid: str, secret: bytes) -> str:
        return f'{{"kid": "{kid}", "key": "{base64(secret)}"}}'

    def test_a_file_of_three_keys_is_read(self) -> None:
        raw = f'{{"current": {self.entry("a", b"a" * 32)}, "previous": {self.entry("b", b"b" * 32)}, "standby": null}}'
        ring = parse(raw.encode())
        assert (ring.current.kid, set(ring.by_kid)) == ("a", {"a", "b"})

    @pytest.mark.parametrize(
        "raw",
        ["", "[]", "{}", '{"current": null}', '{"current": {"kid": "a"}}', '{"current": {"kid": "a b", "key": "YQ"}}',
         '{"current": {"kid": "a", "key": "YQ"}}', '{"current": {"kid": "a", "key": "*"}}', "\xff"],
    )  # fmt: skip
    def test_anything_else_is_refused(self, raw: str) -> None:
        with pytest.raises(ValueError, match=r"is not|has|holds"):
            parse(raw.encode("latin-1"))

    def test_the_same_key_twice_is_refused(self) -> None:
        raw = f'{{"current": {self.entry("a", b"a" * 32)}, "standby": {self.entry("b", b"a" * 32)}}}'
        with pytest.raises(ValueError, match="twice"):
            parse(raw.encode())

    def test_base64_has_one_spelling(self) -> None:
        assert unbase64("YQ") == b"a"
        for text in ("YR", "Y", "Y Q", "YQ\n", "é"):
            with pytest.raises(ValueError, match="base64url"):
                unbase64(text)


@pytest.mark.control("T3", "only listed pairs of caller and audience may exchange")
def test_only_listed_pairs_may_exchange() -> None:
    assert exchange.allowed("files", "events")
    assert not any(exchange.allowed(caller, "backup") for caller in ("files", "events", "auth", ""))
    assert not exchange.allowed("files", "auth")
