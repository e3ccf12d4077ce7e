"""One figure beside its peer, and how a bar judges it."""

import operator
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version

COMPARE = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Row:
    """ours and theirs: medians in *unit*; ratio: ours / theirs, or ours itself when the bar is a plain limit.

    bar: a comparison such as "≥ 0.65", or "" for what is only reported and always holds. beside: the peer with its
    version, or what the limit is. picture: file name and SVG of a curve.
    """

    id: str
    metric: str
    unit: str
    ours: float
    beside: str
    theirs: float | None
    ratio: float
    bar: str
    holds: bool
    rounds: int
    conditions: str
    picture: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, object]:
        """The row as one JSON object, its picture by name."""
        return asdict(self) | {"picture": self.picture and self.picture[0]}


def judged(
    bar: str,
    *,
    id_: str,
    metric: str,
    unit: str,
    ours: Sequence[float],
    beside: str,
    theirs: Sequence[float] = (),
    conditions: str = "",
) -> Row:
    """A row from the figures of alternating rounds. bar: comparison and number, against theirs or as a plain limit."""
    mine = statistics.median(ours)
    peer = statistics.median(theirs) if theirs else None
    ratio = mine / peer if peer else mine
    sign, number = bar.split()
    return Row(
        id=id_,
        metric=metric,
        unit=unit,
        ours=round(mine, 3),
        beside=beside,
        theirs=None if peer is None else round(peer, 3),
        ratio=round(ratio, 3),
        bar=bar,
        holds=bool(COMPARE[sign](ratio, float(number))),
        rounds=len(ours),
        conditions=f"{machine()}; {conditions}" if conditions else machine(),
    )


def reported(
    *,
    id_: str,
    metric: str,
    unit: str,
    ours: Sequence[float],
    beside: str,
    theirs: Sequence[float] = (),
    conditions: str = "",
    picture: tuple[str, str] | None = None,
) -> Row:
    """A row that no bar judges."""
    row = judged(
        "≥ 0", id_=id_, metric=metric, unit=unit, ours=ours, beside=beside, theirs=theirs, conditions=conditions
    )
    return replace(row, bar="", picture=picture)


def alternating(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """The figures of each side over *rounds*, taken in turn so that the machine's drift touches all alike."""
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for figure, side in zip(figures, sides, strict=True):
            figure.append(side())
    return figures


def middles(figures: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The median of each name over rounds that have the same names."""
    return {name: statistics.median(figure[name] for figure in figures) for name in figures[0]}


def listed(figures: Mapping[str, float], unit: str, digits: int = 1) -> str:
    """Named figures on one line."""
    return ", ".join(f"{name} {figure:.{digits}f}" for name, figure in figures.items()) + f" {unit}"


def pairs(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours/theirs of each round."""
    return " ".join(f"{mine:.2f}/{other:.2f}" for mine, other in zip(ours, theirs, strict=True))


def machine() -> str:
    """The conditions every row shares."""
    return f"2 cores shared and noisy, Python {platform.python_version()}, grpcio {version('grpcio')}"
