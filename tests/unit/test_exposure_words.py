"""What `holdfast recovery history` draws, and how it says what it drew."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from holdfast.backup.v1 import upkeep_service_pb2 as pb
from holdfast.cli.upkeep import Span, history

BEGIN = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = Span(BEGIN, BEGIN + timedelta(hours=1), 4)


def drawn(capsys: pytest.CaptureFixture[str], *told: tuple[int, float | None], span: Span = DAY) -> list[str]:
    """The lines printed for parts by number, with their exposure; None for an unknown one, broken when above 900."""
    found = pb.ListExposuresResponse()
    for number, seconds in told:
        point = pb.ExposurePoint(exposure_seconds=seconds, rpo_broken=(seconds or 0) > 900)
        point.begin_time.FromDatetime(span.begin + number * span.step)
        found.points.append(point)
    history(Console(width=200, highlight=False), found, span, 900.0)
    return capsys.readouterr().out.splitlines()


def test_every_sign_of_the_history_is_explained_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(capsys, (0, 0.0), (1, None), (3, 950.0)) == [
        "▁?·█",
        "each sign is the worst of its part: █ 900 s or more would have been lost, ? nothing restorable, or not known,"
        " · nothing measured",
        "4 parts of 15 min, from 2026-11-22 10:00Z to 2026-11-22 11:00Z",
        "worst: 950 s, in the part that begins at 2026-11-22 10:45Z",
        "nothing restorable, or not known: 1 part",
        "broken by a hole in the archive: 1 part",
    ]
    assert drawn(capsys, (0, 0.0), (1, 450.0))[:2] == [
        "▁▄",
        "each sign is the worst of its part: █ 900 s or more would have been lost",
    ]


def test_one_part_is_one_part_and_its_time_ends_behind_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(capsys, (2, 3.0))[2:] == [
        "1 part of 15 min, from 2026-11-22 10:30Z to 2026-11-22 10:45Z",
        "worst: 3 s, in the part that begins at 2026-11-22 10:30Z",
    ]
    fine = Span(BEGIN, BEGIN + timedelta(minutes=10), 96)
    assert drawn(capsys, (8, 3.0), (9, None), span=fine)[2] == (
        "2 parts of 1 min, from 2026-11-22 10:08Z to 2026-11-22 10:10Z"
    )  # fmt: skip
