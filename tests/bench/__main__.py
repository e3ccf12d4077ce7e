"""Run the benchmarks: `python -m tests.bench [--quick] [--only P5,P9] [--json] [--write]`.

Exit code 0 when every bar that ran holds (or with --quick, which judges nothing), else 1.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import tests.bench
from tests.bench.row import Row

PAGE = Path(__file__).resolve().parents[2] / "BENCHMARKS.md"
ROUNDS = 5


def bars() -> dict[str, ModuleType]:
    """The benchmark modules by their id, in order."""
    names = [found.name for found in pkgutil.iter_modules(tests.bench.__path__) if found.name[0] == "p"]
    modules = [importlib.import_module(f"tests.bench.{name}") for name in names if name[1:].isdigit()]
    return {module.ID: module for module in sorted(modules, key=lambda module: int(module.ID[1:]))}


def rows(wanted: list[str], rounds: int) -> Iterator[Row]:
    """Each figure as it is taken."""
    known = bars()
    for id_ in wanted or list(known):
        if id_ not in known:
            sys.exit(f"There is no benchmark {id_}; there are {', '.join(known)}.")
        yield from known[id_].run(rounds)


def line(row: Row) -> str:
    """A row for a person."""
    beside = f"{row.theirs:g} {row.unit} ({row.beside})" if row.theirs is not None else row.beside
    verdict = "holds" if row.holds else "FALLS SHORT"
    return f"{row.id:4} {row.metric}: {row.ours:g} {row.unit} beside {beside}; {row.ratio:g} of {row.bar}: {verdict}"


def table(taken: list[Row]) -> str:
    """The rows as a page."""
    head = [
        "# Benchmarks",
        "",
        "Each figure stands beside a peer or a limit measured in the same run on the same machine, as the ratio of",
        "medians over alternating rounds. Take the ratios; the machine is shared and its seconds mean little.",
        f"Taken {datetime.now(UTC):%Y-%m-%d} by `make bench`. Conditions: {taken[0].conditions.split(';')[0]}.",
        "",
        "| id | what | ours | beside | theirs | ratio | bar | holds | rounds | conditions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    body = [
        f"| {row.id} | {row.metric} | {row.ours:g} {row.unit} | {row.beside} "
        f"| {'' if row.theirs is None else f'{row.theirs:g} {row.unit}'} | {row.ratio:g} | {row.bar} "
        f"| {'yes' if row.holds else '**no**'} | {row.rounds} | {row.conditions.partition('; ')[2]} |"
        for row in taken
    ]
    return "\n".join([*head, *body, ""])


def main() -> None:
    """Parse, run, print, and judge."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--quick", action="store_true", help="one short round; prints, judges nothing")
    parser.add_argument("--only", default="", help="ids, divided by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--write", action="store_true", help="rewrite BENCHMARKS.md, unless --only is given")
    asked = parser.parse_args()
    taken = []
    wanted = [id_ for id_ in asked.only.upper().split(",") if id_]
    for row in rows(wanted, 1 if asked.quick else ROUNDS):
        taken.append(row)
        print(json.dumps(row.as_dict(), ensure_ascii=False) if asked.json else line(row), flush=True)
    if asked.write and taken and not wanted:  # the page holds every bar, or it would lose those that were not run
        PAGE.write_text(table(taken))
    sys.exit(0 if asked.quick or all(row.holds for row in taken) else 1)


if __name__ == "__main__":
    main()
