"""A history as one SVG picture: points over time on a logarithmic scale, the promised limit, failures as crosses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 18, 34
_TICKS = ((1, "1 ms"), (10, "10 ms"), (100, "0.1 s"), (1_000, "1 s"), (10_000, "10 s"), (60_000, "1 min"))
_LONG = ((600_000, "10 min"), (3_600_000, "1 h"), (14_400_000, "4 h"), (86_400_000, "1 d"), (864_000_000, "10 d"))


@dataclass(frozen=True, slots=True)
class Point:
    """at: aware UTC. milliseconds: None when a failure came before there was a figure. note: shown when pointed at."""

    at: datetime
    milliseconds: int | None
    good: bool
    note: str


def history(points: Sequence[Point], *, title: str, limit: tuple[int, str]) -> str:
    """The picture as an `svg` element; its words are escaped here. limit: of the dashed line, in milliseconds, and what
    it says."""
    most, promise = limit
    if not points:
        return f"<p>{escape(title)}: there is nothing to show yet.</p>"
    known = [max(1, point.milliseconds) for point in points if point.milliseconds is not None]
    scale = _Scale(points, min([*known, 1_000, most]), max([*known, most]) * 2)
    shown = "".join(_mark(scale, point) for point in points)
    bound = scale.y(most)
    line = f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bound}" y2="{bound}"/>'
    words = f'<text class="limit" x="{_WIDTH - _RIGHT}" y="{bound - 5}" text-anchor="end">{escape(promise)}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{scale.grid()}{line}{words}{shown}</svg>"
    )


class _Scale:
    """Moments and milliseconds to places in the picture."""

    def __init__(self, points: Sequence[Point], low: int, high: int) -> None:
        self._first, self._last = min(point.at for point in points), max(point.at for point in points)
        if self._first == self._last:
            self._first, self._last = self._first - timedelta(hours=12), self._last + timedelta(hours=12)
        self._low, self._high = low, high

    def x(self, at: datetime) -> float:
        share = (at - self._first) / (self._last - self._first)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, milliseconds: int) -> float:
        share = math.log(max(1, milliseconds) / self._low) / math.log(self._high / self._low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def grid(self) -> str:
        """Lines across for round durations, dates below."""
        made = []
        for milliseconds, label in (*_TICKS, *_LONG):
            if self._low <= milliseconds <= self._high:
                y = self.y(milliseconds)
                made.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
                made.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
        span = self._last - self._first
        form = "%Y-%m-%d" if span > timedelta(days=3) else "%m-%d %H:%M"
        for step, anchor in ((0, "start"), (1, "middle"), (2, "end")):
            at = self._first + span * step / 2
            made.append(f'<text x="{self.x(at)}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{at:{form}}</text>')
        return "".join(made)


def _mark(scale: _Scale, point: Point) -> str:
    x = scale.x(point.at)
    y = _TOP if point.milliseconds is None else scale.y(point.milliseconds)
    title = f"<title>{escape(point.note)}</title>"
    if point.good:
        return f'<circle class="good" cx="{x}" cy="{y}" r="4">{title}</circle>'
    return f'<path class="bad" d="M{x - 5} {y - 5}l10 10m0-10l-10 10">{title}</path>'
