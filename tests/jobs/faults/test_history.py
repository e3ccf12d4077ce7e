"""The judge of the fault tests: what it lets pass and what it names."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.jobs.faults.history import FINISHED, Event, History, Left, violations


def changes(*told: tuple[str, str, str, int], silent_seconds: float = 0) -> list[Event]:
    """Changes of job j from (by, was, state, lease), numbered from 1 by tens."""
    return [
        Event(
            number=10 * n,
            kind="change",
            job="j",
            by=by,
            was=was,
            state=state,
            lease=lease,
            silent_seconds=silent_seconds,
        )
        for n, (by, was, state, lease) in enumerate(told, 1)
    ]


def ran(by: str, lease: int, begin: int, end: int | None = None) -> list[Event]:
    began = [Event(number=begin, kind="begin", job="j", by=by, lease=lease)]
    return began if end is None else [*began, replace(began[0], number=end, kind="end")]


PUT = Event(number=15, kind="put", job="j", by="producer")
ONCE = [
    *changes(("producer", "", "ready", 0), ("a", "ready", "running", 1), ("a", "running", FINISHED, 1)),
    *ran("a", 1, 22, 25),
    PUT,
]
# Process a falls silent, b takes its job back and finishes it, a ends its own run much later.
RESCUED = [
    *changes(("producer", "", "ready", 0), ("a", "ready", "running", 1), ("b", "running", "ready", 1))[:2],
    replace(changes(("b", "running", "ready", 1), silent_seconds=9)[0], number=30),
    *(
        replace(event, number=event.number + 30)
        for event in changes(("b", "ready", "running", 2), ("b", "running", FINISHED, 2))
    ),
    *ran("a", 1, 21, 70),
    *ran("b", 2, 42, 45),
    PUT,
]


def finished(events: list[Event], **how: object) -> History:
    return History(**{"dead_seconds": 5, "events": events, "lines": Counter("j"), **how})  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize(
    "history",
    [
        finished(ONCE),
        finished(RESCUED),
        finished([*RESCUED[:3], PUT], lines=Counter(), left={"j": Left("ready", 1)}),
        finished([*ONCE[:1], PUT], lines=Counter(), left={"j": Left("dead", 0)}),
        finished([*ONCE, Event(number=99, kind="change", job="k", state="ready", parent="j")], left={}),
        finished(ONCE, ticks=["j"]),
    ],
    ids=["run once", "rescued", "given back", "dead", "with a child", "periodic"],
)
def test_what_a_fault_may_bring_about_is_no_violation(history: History) -> None:
    assert violations(history) == []


def _without(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind != kind]


STOLEN = [replace(event, silent_seconds=1.0) if event.number == 30 else event for event in RESCUED]


@pytest.mark.parametrize(
    ("history", "named"),
    [
        (finished([*ONCE[:1], PUT], lines=Counter()), "neither finished nor dead nor queued"),
        (finished(ONCE, ticks=["j", "t"]), "t: put, and now neither"),
        (finished(ONCE, ticks=["j", "j"]), "the job of 2 ticks"),
        (finished(ONCE, lines=Counter("jj")), "2 accepted completions"),
        (finished(ONCE, left={"j": Left("dead", 0)}), "finished, and still dead"),
        (finished([PUT], lines=Counter(), left={"j": Left("ready", 0)}), "ready with 0 places"),
        (finished([PUT], lines=Counter(), left={"j": Left("ready", 2)}), "ready with 2 places"),
        (finished([PUT], lines=Counter(), left={"j": Left("running", 1)}), "running with 1 places"),
        (finished(_without(ONCE, "end")), "whose handler has not ended"),
        (finished([*ONCE, *ran("b", 1, 23)]), "b began it under lease 1, which was never its own"),
        (finished([*ONCE, *ran("a", 2, 23)]), "a began it under lease 2, which was never its own"),
        (finished(STOLEN), "b ended lease 1 of a, silent for 1.0 s only"),
        (finished(changes(("p", "", "ready", 0), ("a", "ready", "running", 1), ("b", "running", "running", 2))),
         "b claimed it while lease 1 of a was live"),
        (finished(changes(("p", "", "ready", 0), ("a", "ready", "running", 1), ("b", "running", FINISHED, 1))),
         "b finished it under lease 1 of a"),
        (finished([*ONCE, replace(ONCE[2], number=99)]), "changed from running, but it was finished"),
        (finished(changes(("p", "", "ready", 0), ("a", "ready", "running", 2))), "under lease 2 after lease 0"),
        (finished(changes(("p", "", "ready", 0), ("a", "ready", "running", 0))), "under lease 0 after lease 0"),
        (finished(changes(("p", "", "ready", 3), ("a", "ready", "dead", 2))), "lease 3 became 2 without a claim"),
        (finished([Event(number=1, kind="change", job="k", parent="p", state="ready")]), "p: its handler's writes"),
        (finished([Event(number=n, kind="change", job=str(n), parent="j", state="ready") for n in (1, 2)]),
         "j: its handler's writes are there 2 times"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(history: History, named: str) -> None:
    assert any(named in fault for fault in violations(history)), violations(history)
