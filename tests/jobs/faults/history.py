"""What happened to each job, and which promises of the queue it breaks.

A History is told by the database itself (tests.jobs.faults.recorder), not by the code under test. The numbers of its
events come from one sequence: those of one job are in the order in which they happened.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

KINDS = ("put", "begin", "end", "change")
FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """kind: put, the producer's commit was acknowledged; begin and end, of a handler under a lease; change, the
    database accepted one.

    by: the process. Of a change: was and state, the job's state before and after ("" before there was a job, FINISHED
    after); lease, the one it has now; silent_seconds, for how long the worker that ran it had not beaten, 0 when none
    ran it. parent: the job whose handler put this one.
    """

    number: int
    kind: str
    job: str
    by: str = ""
    lease: int = 0
    was: str = ""
    state: str = ""
    silent_seconds: float = 0.0
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A job that is not finished; places: how many ready rows it has."""

    state: str
    places: int


@dataclass(slots=True)
class History:
    """dead_seconds: after how much silence a worker may be taken for dead; left: unfinished jobs; lines: how many rows
    of jobs.history each job has; ticks: the jobs of the periodic ticks.
    """

    dead_seconds: float
    events: list[Event] = field(default_factory=list)
    left: dict[str, Left] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    ticks: list[str] = field(default_factory=list)

    def finished(self) -> set[str]:
        """The jobs that have ended well."""
        return set(self.lines)

    def put(self) -> set[str]:
        """The jobs whose producer was told that they are there."""
        return {event.job for event in self.events if event.kind == "put"}

    def began(self, job: str) -> list[tuple[str, int]]:
        """(process, lease) of each time a handler was given *job*."""
        return [(event.by, event.lease) for event in self.events if (event.kind, event.job) == ("begin", job)]


def violations(history: History) -> list[str]:
    """What no fault may bring about, a sentence each; [] when every promise was kept."""
    by_job: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(history.events, key=lambda event: event.number):
        by_job[event.job].append(event)
    found = [*_lost(history), *_doubled(history), *_families(history), *_misplaced(history)]
    for job, events in by_job.items():
        found += [f"{job}: {fault}" for fault in _Job(history.dead_seconds).faults(events)]
    return found


def _lost(history: History) -> Iterator[str]:
    for job in sorted((history.put() | set(history.ticks)) - history.finished() - history.left.keys()):
        yield f"{job}: put, and now neither finished nor dead nor queued"


def _doubled(history: History) -> Iterator[str]:
    for job, count in sorted(history.lines.items()):
        if count > 1:
            yield f"{job}: {count} accepted completions"
        if job in history.left:
            yield f"{job}: finished, and still {history.left[job].state}"
    for job, count in Counter(history.ticks).items():
        if count > 1:
            yield f"{job}: the job of {count} ticks"


def _families(history: History) -> Iterator[str]:
    """A handler that puts a job and completes its own in one transaction has done both, once, or neither."""
    children = Counter(event.parent for event in history.events if event.parent and event.kind == "change")
    for job, count in sorted(children.items()):
        if job not in history.finished():
            yield f"{job}: its handler's writes are there, its completion is not"
        if count > 1:
            yield f"{job}: its handler's writes are there {count} times"


def _misplaced(history: History) -> Iterator[str]:
    for job, left in sorted(history.left.items()):
        if left.places != (left.state == "ready"):
            yield f"{job}: {left.state} with {left.places} places in line"


class _Job:
    """Follows one job through its changes."""

    def __init__(self, dead_seconds: float) -> None:
        self._dead_seconds = dead_seconds
        self._state, self._lease, self._holder = "", 0, ""
        self._holders: dict[int, str] = {}
        self._ended: set[int] = set()

    def faults(self, events: Iterable[Event]) -> Iterator[str]:
        for event in events:
            match event.kind:
                case "begin" if self._holders.get(event.lease) != event.by:
                    yield f"{event.by} began it under lease {event.lease}, which was never its own"
                case "end":
                    self._ended.add(event.lease)
                case "change":
                    yield from self._changed(event)
                case _:
                    pass

    def _changed(self, event: Event) -> Iterator[str]:
        if event.was != self._state:
            yield f"changed from {event.was or 'nothing'}, but it was {self._state or 'not there'}"
        if self._state == "running":
            yield from self._taken(event)
        if event.state == "running":
            yield from self._claimed(event)
        elif event.lease != self._lease:
            yield f"lease {self._lease} became {event.lease} without a claim"
        self._state, self._lease = event.state, event.lease

    def _taken(self, event: Event) -> Iterator[str]:
        """A live lease ends: by its holder, or because that one has been silent for too long."""
        if event.by != self._holder and event.silent_seconds < self._dead_seconds:
            silent = f"silent for {event.silent_seconds:.1f} s only"
            yield f"{event.by} ended lease {self._lease} of {self._holder}, {silent}"
        if event.state == "running":
            yield f"{event.by} claimed it while lease {self._lease} of {self._holder} was live"
        if event.state == FINISHED and event.by != self._holder:
            yield f"{event.by} finished it under lease {self._lease} of {self._holder}"
        if event.state == FINISHED and self._lease not in self._ended:
            yield f"finished under lease {self._lease}, whose handler has not ended"

    def _claimed(self, event: Event) -> Iterator[str]:
        if event.lease != self._lease + 1:
            yield f"claimed under lease {event.lease} after lease {self._lease}"
        self._holder = self._holders[event.lease] = event.by
