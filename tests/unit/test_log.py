"""Log lines: their shape, what joins them, and what never reaches them."""

import asyncio
import hashlib
import json
import logging
import warnings
from typing import Any

import pytest

from libs.errors import ForeignName
from libs.observability import context, log, redact
from libs.secret import Secret
from tests.unit.lines import Lines

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU"
CANARY = "hunter2-Canary-41"


def test_a_line_is_one_json_object_with_time_level_service_logger_and_event(lines: Lines) -> None:
    log.get("room").info("file_created", bytes=3, ok=True, note="한글\nsecond line")
    (line,) = lines.read()
    assert lines.text.count("\n") == 1
    assert (line["level"], line["service"], line["logger"], line["event"]) == ("info", "unit", "room", "file_created")
    assert (line["bytes"], line["ok"], line["note"]) == (3, True, "한글\nsecond line")
    assert line["time"].endswith("+00:00")


def test_a_line_below_the_level_is_not_printed(lines: Lines) -> None:
    log.configure("unit", "json", "warning", stream=lines)
    logger = log.get("room")
    logger.info("quiet")
    logging.getLogger("library").info("quiet")
    logger.warning("heard")
    logging.getLogger("library").warning("heard")
    assert [line["event"] for line in lines.read()] == ["heard", "heard"]


def test_the_console_form_is_redacted_as_well(lines: Lines) -> None:
    log.configure("unit", "console", "info", stream=lines)
    log.get("room").info("signed_in", password=CANARY, user="u1")
    assert "signed_in" in lines.text
    assert "u1" in lines.text
    assert CANARY not in lines.text


async def test_lines_of_a_request_carry_its_ids_and_others_do_not(lines: Lines) -> None:
    async def request(number: int) -> None:
        with context.bound(request=f"r{number}", trace=f"t{number}"):
            await asyncio.sleep(0)
            log.get("room").info("inside", number=number)
            logging.getLogger("library").warning("inside")

    await asyncio.gather(request(1), request(2))
    log.get("room").info("outside")
    told = [(line["event"], line.get("request_id"), line.get("trace_id")) for line in lines.read()]
    assert sorted(told[:-1]) == [("inside", "r1", "t1")] * 2 + [("inside", "r2", "t2")] * 2
    assert told[-1] == ("outside", None, None)


@pytest.mark.control("A4", "a request id from outside is bounded")
@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "a\nb", "é", '"', "a/b"])
def test_a_request_id_that_is_not_harmless_is_replaced(sent: str) -> None:
    assert context.accept("Client-1.2_3") == "Client-1.2_3"
    assert context.accept(sent) != sent
    assert context.accept(context.accept(sent))


@pytest.mark.control("A4", "a credential does not reach the log")
@pytest.mark.parametrize(
    "name",
    [
        "password",
        "new_password",
        "db-password",
        "token",
        "user_token",
        "csrf",
        "csrf_token",
        "cookie",
        "set-cookie",
        "authorization",
        "secret",
        "client_secret",
        "key",
        "api_key",
        "apikey",
        "private_key",
        "dsn",
        "conninfo",
        "credential",
        "otp",
        "body",
        "refresh_token",
        "Authorization",
    ],
)
def test_a_field_named_as_a_credential_loses_its_value(lines: Lines, name: str) -> None:
    log.get("room").info("event", **{name: CANARY}, nested={name: [CANARY], "kept": "visible"}, path="visible")
    assert CANARY not in lines.text
    (line,) = lines.read()
    assert line["nested"]["kept"] == line["path"] == "visible"


@pytest.mark.control("A4", "a credential does not reach the log")
@pytest.mark.parametrize(
    "text",
    [
        f"connecting to postgresql://holdfast:{CANARY}@db:5432/holdfast failed",
        f"redis://:{CANARY}@cache/0",
        f"postgresql://u:p/{CANARY}@x@db/holdfast",
        f"my_db_password_file_value={CANARY}",
        f"password = {CANARY}",
        f"host=db user=x password={CANARY} dbname=y",
        f"password: '{CANARY}'",
        f'{{"password": "{CANARY}", "a": 1}}',
        f"Authorization: Bearer {CANARY}",
        f"authorization=bearer {CANARY}",
        f"Cookie: __Host-session={CANARY}; theme=dark",
        f"Cookie: theme=dark; __Host-session={CANARY}",
        f"set-cookie: a={CANARY}",
        f"https://x.example/reset?token={CANARY}&a=1",
        f"X-CSRF-Token: {CANARY}",
        f"secret_key={CANARY}",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}",
    ],
)
def test_a_credential_inside_a_text_is_cut_out(lines: Lines, text: str) -> None:
    log.get("room").info(text, note=text)
    logging.getLogger("library").warning("said: %s", text)
    assert CANARY not in lines.text
    log.get("room").info("event", note=CANARY)
    assert CANARY in lines.text  # the sink keeps what nothing marks as a credential


@pytest.mark.control("A4", "a token shows as eight characters and a digest")
def test_a_token_shows_as_eight_characters_and_eight_digits_of_its_digest(lines: Lines) -> None:
    log.get("room").info("verified", user_token=TOKEN, note=f"got {TOKEN}.")
    (line,) = lines.read()
    shown = TOKEN[:8] + "#" + hashlib.sha256(TOKEN.encode()).hexdigest()[:8]
    assert line["user_token"] == shown
    assert line["note"].startswith(f"got {shown}")
    assert redact.token("short") == "#" + hashlib.sha256(b"short").hexdigest()[:8]


@pytest.mark.control("A4", "an e-mail address is masked")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail to somebody@example.com sent", "mail to som***@example.com sent"),
        ("ab@example.co.kr", "ab***@example.co.kr"),
        ("김철수입니다@example.com", "김철수***@example.com"),
        ("a.b+tag@sub.example.com,x", "a.b***@sub.example.com,x"),
        ("Write to one@example.com.", "Write to one***@example.com."),
        ("no address @ all, a@b", "no address @ all, a@b"),
        ("<" + "x" * 100 + "@example.com>", "<xxx***@example.com>"),
        ("mail=one@example.com;two@example.org", "mail=one***@example.com;two***@example.org"),
    ],
)
def test_an_email_address_is_masked(text: str, shown: str) -> None:
    assert redact.text(text) == shown


@pytest.mark.control("A4", "an exception is told by class")
def test_an_exception_is_told_by_class_and_place_without_its_text(lines: Lines) -> None:
    logger = log.get("room")
    try:
        try:
            raise ValueError(f"row ({CANARY}) is taken")
        except ValueError as error:
            raise RuntimeError(CANARY) from error
    except RuntimeError as error:
        logger.error("failed", exc_info=error)
        logger.exception("failed")
        logging.getLogger("library").exception("failed")
        logger.error("failed", cause=error)
    assert CANARY not in lines.text
    told = lines.read()
    assert [line["error"] for line in told[:3]] == ["RuntimeError"] * 3
    assert told[0]["causes"] == ["ValueError"]
    assert "tests/unit/test_log.py" in told[0]["at"][-1]
    assert told[3]["cause"] == "RuntimeError"


def test_a_deliberate_refusal_shows_its_reason_and_an_os_error_its_number(lines: Lines) -> None:
    log.get("room").error("a", exc_info=ForeignName("x", field=CANARY))
    log.get("room").error("b", exc_info=FileNotFoundError(2, CANARY, CANARY))
    assert [line["error"] for line in lines.read()] == [
        "libs.errors.ForeignName(FOREIGN_NAME)",
        "FileNotFoundError(errno 2)",
    ]
    assert CANARY not in lines.text


def test_objects_and_bytes_are_told_by_kind_and_size_only(lines: Lines) -> None:
    class Row:
        def __repr__(self) -> str:
            return CANARY

    log.get("room").info(
        "event", row=Row(), raw=CANARY.encode(), s=Secret(CANARY.encode()), many=[Row()], deep=_deep(9)
    )
    (line,) = lines.read()
    assert CANARY not in lines.text
    assert (line["row"], line["raw"], line["s"], line["many"]) == ("<Row>", "<17 bytes>", "<Secret>", ["<Row>"])


def test_a_huge_text_and_a_huge_list_are_cut(lines: Lines) -> None:
    log.get("room").info("event", note="x" * 100_000, many=list(range(10_000)))
    assert len(lines.text) < 5_000


def test_numbers_that_json_cannot_say_are_said_as_text(lines: Lines) -> None:
    log.get("room").info("event", ratio=float("nan"), most=float("inf"), fine=0.5)
    (line,) = lines.read()
    assert (line["ratio"], line["most"], line["fine"]) == ("nan", "inf", 0.5)
    assert "NaN" not in lines.text


def test_warnings_of_libraries_are_lines_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(f"password={CANARY}", UserWarning, stacklevel=1)
    assert json.loads(lines.text)["logger"] == "py.warnings"
    assert CANARY not in lines.text


def _deep(levels: int) -> Any:
    return {"next": _deep(levels - 1)} if levels else CANARY
