"""A line chart as SVG, by hand: few lines, no library, and the same bytes for the same figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 66, 50
COLOURS = ("#0b6e99", "#c2571a", "#5a7d2a", "#7a4fa3")


def chart(title: str, x_name: str, y_name: str, curves: Mapping[str, Points], *, log_x: bool = True) -> str:
    """The curves over one another. y begins at 0; with log_x every x has to be above 0."""
    xs = [x for points in curves.values() for x, _ in points]
    most = max(y for points in curves.values() for _, y in points)
    across = _across(min(xs), max(xs), log_x)
    top = _round_up(most)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 22, title, size=15),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, anchor="middle"),
        _text(8, TOP - 8, y_name),
        *_rows(up, top),
        *(_text(across(x), HEIGHT - BOTTOM + 18, short(x), anchor="middle") for x in _marks(xs, log_x)),
    ]
    for number, (name, points) in enumerate(curves.items()):
        parts += _curve(name, [(across(x), up(y)) for x, y in points], number)
    return "\n".join([*parts, "</svg>", ""])


def short(number: float) -> str:
    """1000 → 1k, 1000000 → 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _across(least: float, most: float, log_x: bool) -> Scale:
    position: Scale = math.log10 if log_x else float
    first, span = position(least), (position(most) - position(least)) or 1.0
    return lambda x: LEFT + (WIDTH - LEFT - RIGHT) * (position(x) - first) / span


def _round_up(most: float) -> float:
    size = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(step * size for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * size >= most)


def _marks(xs: Sequence[float], log_x: bool) -> list[float]:
    found = sorted(set(xs))
    return found if log_x or len(found) <= 8 else found[:: -(-len(found) // 8)]


def _rows(up: Scale, top: float) -> list[str]:
    lines = []
    for step in range(5):
        value = top * step / 4
        line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#dddddd"/>'
        lines += [line, _text(LEFT - 8, up(value) + 4, short(value), anchor="end")]
    return lines


def _curve(name: str, points: Points, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    legend = LEFT + number * 210
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        f'<rect x="{legend}" y="32" width="12" height="12" fill="{colour}"/>',
        _text(legend + 18, 42, name),
    ]


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222222">{escape(words)}</text>'
    )
