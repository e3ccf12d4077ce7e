"""Run the benchmarks: `python -m tests.bench [--quick] [--only P5,P9] [--json] [--write]`.

Exit code 0 when every bar that ran holds (or with --quick, which judges nothing), else 1.
"""

import argparse
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import tests.bench
from tests.bench.row import Row

PAGE = Path(__file__).resolve().parents[2] / "BENCHMARKS.md"
PICTURES = Path(__file__).with_name("pictures")
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
    verdict = f"{row.bar}: {'holds' if row.holds else 'FALLS SHORT'}" if row.bar else "reported"
    return f"{row.id:4} {row.metric}: {row.ours:g} {row.unit} beside {beside}; {row.ratio:g} of {verdict}"


def table(taken: list[Row], kept: list[str]) -> str:
    """The rows as a page. kept: lines of the present page about benchmarks that were not run."""
    ran = ", ".join(dict.fromkeys(row.id for row in taken))
    head = [
        "# Benchmarks",
        "",
        "Each figure stands beside a peer or a limit measured in the same run on the same machine, as the ratio of",
        "medians over alternating rounds. Take the ratios; the machine is shared and its seconds mean little.",
        f"Last run: {datetime.now(UTC):%Y-%m-%d}, {ran}. Conditions: {taken[0].conditions.split(';')[0]}.",
        "A row without a bar is only reported.",
        "",
        "| id | what | ours | beside | theirs | ratio | bar | holds | rounds | conditions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [found for found in kept if found.startswith("|")] + [cells(row) for row in taken]
    pictures = [found for found in kept if found.startswith("!")] + [
        f"![{row.id}: {row.metric}](tests/bench/pictures/{row.picture[0]})" for row in taken if row.picture
    ]
    body = sorted(rows, key=place)
    return "\n".join([*head, *body, "", *(line for shown in sorted(pictures, key=place) for line in (shown, ""))])


def cells(row: Row) -> str:
    """A row of the page's table."""
    holds = "" if not row.bar else "yes" if row.holds else "**no**"
    return (
        f"| {row.id} | {row.metric} | {row.ours:g} {row.unit} | {row.beside} "
        f"| {'' if row.theirs is None else f'{row.theirs:g} {row.unit}'} | {row.ratio:g} | {row.bar} "
        f"| {holds} | {row.rounds} | {row.conditions.partition('; ')[2]} |"
    )


def place(line: str) -> int:
    """The number of the benchmark that a line of the page is about; 0 for other lines."""
    found = re.match(r"(?:\| |!\[)P(\d+)\b", line)
    return int(found[1]) if found else 0


def write(taken: list[Row]) -> None:
    """Put the rows in the place of those of the same benchmarks, and their pictures beside them."""
    ran = {int(row.id[1:]) for row in taken} | {0}
    kept = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if place(line) not in ran]
    PAGE.write_text(table(taken, kept), encoding="utf-8")
    for name, drawn in (row.picture for row in taken if row.picture):
        PICTURES.mkdir(exist_ok=True)
        (PICTURES / name).write_text(drawn, encoding="utf-8")


def main() -> None:
    """Parse, run, print, and judge."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--quick", action="store_true", help="one short round; prints, judges nothing")
    parser.add_argument("--only", default="", help="ids, divided by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--write", action="store_true", help="rewrite what BENCHMARKS.md says of the benchmarks that ran"
    )
    asked = parser.parse_args()
    taken = []
    wanted = [id_ for id_ in asked.only.upper().split(",") if id_]
    for row in rows(wanted, 1 if asked.quick else ROUNDS):
        taken.append(row)
        print(json.dumps(row.as_dict(), ensure_ascii=False) if asked.json else line(row), flush=True)
    if asked.write and taken:
        write(taken)
    sys.exit(0 if asked.quick or all(row.holds for row in taken) else 1)


if __name__ == "__main__":
    main()
