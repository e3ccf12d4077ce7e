"""How long a job is on its way to its handler, while another process puts jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.queues.side import Side
from tests.bench.row import alternating


@dataclass(frozen=True, slots=True)
class Watched:
    """producer: a command of contract, with its numbers; jobs: how many it puts; within: seconds until all have run."""

    producer: str
    jobs: int
    within: float
    numbers: tuple[float, ...]

    def compare(self, sides: Sequence[Side], rounds: int) -> tuple[list[float], list[str]]:
        """The p95 of each round of the first side, in ms, and the medians of every side in words."""
        answers: list[list[Mapping[str, float]]] = [[] for _ in sides]

        def p95(side: Side, taken: list[Mapping[str, float]]) -> float:
            taken.append(side.watched(self.jobs, self.within, self.producer, *self.numbers))
            return taken[-1]["p95"] * 1000

        pairs = zip(sides, answers, strict=True)
        figures = alternating(rounds, *(lambda side=side, taken=taken: p95(side, taken) for side, taken in pairs))
        told = [self._told(*each) for each in zip(sides, figures, answers, strict=True)]
        return figures[0], told

    def _told(self, side: Side, p95s: Sequence[float], answers: Sequence[Mapping[str, float]]) -> str:
        p50 = median(answer["p50"] for answer in answers) * 1000
        handled = min(answer["handled"] for answer in answers)
        late = "" if handled == self.jobs else f", {self.jobs - handled:.0f} of {self.jobs} jobs not reached in time"
        return f"{side.label} {median(p95s):.1f} (p50 {p50:.1f}{late})"
