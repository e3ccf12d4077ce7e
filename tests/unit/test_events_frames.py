"""Frames, positions and payloads as plain values."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from libs.errors import InvalidArgument
from libs.http1 import Request
from services.events.domain.errors import EventInvalid, ResumeTokenInvalid
from services.events.domain.event import Event, Frame, check_data, check_type
from services.events.domain.position import Position, Start, reset, start
from services.events.http import frames
from services.events.http.endpoint import resume_token
from services.events.ops.following import RING_FRAMES, Following

EVENT = Event("org1", "user1", 7, "sample.told", '{"a": 1}', datetime(2026, 1, 1, tzinfo=UTC))


def test_a_frame_is_id_type_and_data() -> None:
    assert frames.event("e1", EVENT) == b'id: e1.7\nevent: sample.told\ndata: {"a": 1}\n\n'


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_nothing_stored_can_begin_a_field_of_its_own(end: str) -> None:
    evil = replace(EVENT, type=f"a{end}id: 9.9", data=f'{{"a":{end}1}}{end}event: goodbye{end}{end}data: x')
    lines = frames.event(f"e{end}\0", evil).decode().replace("\r", "\n").split("\n")
    assert [line.partition(":")[0] for line in lines] == ["id", "event", *["data"] * 5, "", ""]
    assert lines[0] == "id: e.7"


def test_every_block_carries_the_resume_token_except_a_refusal() -> None:
    told = reset("too_old", Position("e1", 3, 9))
    for block in (frames.heartbeat("e1.9"), frames.reset(told, "e1.9"), frames.goodbye("rotation", "e1.9")):
        assert b"id: e1.9\n" in block
        assert block.endswith(b"\n\n")
    assert b"id:" not in frames.refused("TOO_MANY_STREAMS", "Too many.", 5.0)


@pytest.mark.parametrize(
    ("resume", "after", "cause"),
    [
        ("", 9, ""), ("earliest", 2, ""), ("e1.9", 9, ""), ("e1.2", 2, ""), ("e1.1", 9, "too_old"),
        ("e1.10", 9, "unknown"), ("e0.5", 9, "epoch_changed"),
    ],
)  # fmt: skip
def test_a_reader_goes_on_without_a_gap_or_is_told_of_it(resume: str, after: int, cause: str) -> None:
    position = Position("e1", 3, 9)
    assert start(resume, position) == Start(after, reset(cause, position) if cause else None)


def test_an_empty_stream_can_be_followed_from_its_beginning() -> None:
    assert [start(resume, Position("e1", 0, 0)) for resume in ("", "earliest", "e1.0")] == [Start(0)] * 3


@pytest.mark.parametrize("resume", ["1", "e1.", ".1", "e1.1\n", "E.1", "e1.-1", "e" * 33 + ".1", "e1." + "1" * 20])
def test_a_token_of_another_shape_is_refused(resume: str) -> None:
    with pytest.raises(ResumeTokenInvalid):
        start(resume, Position("e1", 3, 9))


@pytest.mark.parametrize("data", ["", "null", "1", "[]", '{"a":Infinity}', '{"a":1e400}', '{"\\u0000":1}', "{" * 9000])
def test_a_payload_the_database_could_not_keep_is_refused(data: str) -> None:
    with pytest.raises(EventInvalid):
        check_data(data)
    check_data('{"a": [1, 2.5e3, "é", {"b": null}]}')


@pytest.mark.parametrize("type", ["reset", "goodbye", "refused", "open", "error"])
def test_a_published_event_cannot_pass_for_a_word_of_the_stream(type: str) -> None:
    with pytest.raises(EventInvalid):
        check_type(type)
    check_type(f"sample.{type}")


def test_a_query_of_many_fields_is_refused_and_no_fault_of_ours() -> None:
    asked = "/v1/events?" + "&".join(f"a{n}=1" for n in range(19))
    assert resume_token(Request("GET", f"{asked}&last_event_id=e1.1")) == "e1.1"
    with pytest.raises(InvalidArgument):
        resume_token(Request("GET", f"{asked}&b=1&last_event_id=e1.1"))


class Taker:
    """A reader that keeps what it is offered."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.woken = 0

    def offer(self, frame: Frame) -> None:
        self.taken.append(frame.event.offset)

    def wake(self) -> None:
        self.woken += 1


def test_readers_of_one_user_share_a_bounded_memory() -> None:
    following, taker = Following(("org1", "user1")), Taker()
    following.readers.add(taker)
    following.begin(Position("e1", 0, 0))
    count = RING_FRAMES + 10
    following.extend(Frame("e1", replace(EVENT, offset=offset), b"x") for offset in range(1, count + 1))
    assert taker.taken == list(range(1, count + 1))
    assert following.kept(0) is None
    assert [frame.event.offset for frame in following.kept(count - 2) or []] == [count - 1, count]
    assert following.kept(count) == []
    following.restart("epoch_changed", Position("e2", 1, 3))
    assert (following.kept(3), following.newest, taker.woken) == (None, 3, 1)
