"""How a verb speaks: a live list on a terminal, plain lines elsewhere, one JSON object with FORMAT=json."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

NAME_WIDTH = 56
"""Columns for the name of a step."""


def wants_json() -> bool:
    """Whether the caller asked for one JSON object and nothing else on standard output."""
    return os.environ.get("FORMAT", "") == "json"


@dataclass
class Report:
    """What one verb did and found. Text goes to standard output, or to standard error when that carries JSON."""

    facts: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(stderr=wants_json(), highlight=False, soft_wrap=True))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that a step is under way, and how it ended."""
        began = time.monotonic()
        ok = False
        try:
            if self.console.is_terminal:
                with self.console.status(name):
                    yield
            else:
                yield
            ok = True
        finally:
            seconds = time.monotonic() - began
            self.steps.append({"name": name, "ok": ok, "ms": round(seconds * 1000)})
            mark = "[green]ok[/green]" if ok else "[red]failed[/red]"
            self.say(f"  {name:<{NAME_WIDTH}} {mark} {seconds:6.1f} s")

    def say(self, text: str = "") -> None:
        """One line for a person."""
        self.console.print(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on a terminal; aligned words elsewhere."""
        if self.console.is_terminal:
            table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:
                table.add_row(*row)
            self.console.print(table)
            return
        widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
        self.say(title)
        for row in [columns, *rows]:
            self.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def finish(self, *, ok: bool) -> int:
        """Print the object when JSON was asked for; the exit code."""
        if wants_json():
            print(json.dumps({"ok": ok, **self.facts, "steps": self.steps}, default=str))
        sys.stdout.flush()
        return 0 if ok else 1
