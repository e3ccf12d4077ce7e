"""What migrations this release has, read from its own files: no database and no migration runner is needed."""

import ast
from pathlib import Path

import libs.db
from libs.db.grants import SERVICES

_ROOT = Path(libs.db.__file__).parents[2]
# The queue's and the audit trail's tree keeps its version in the first of its schemas.
_SHARED = ("jobs", "libs/db/migrations/versions")


def revisions() -> dict[str, tuple[str, ...]]:
    """Schema → its revisions, oldest first; of each tree that this release has."""
    folders = dict([_SHARED, *((service, f"services/{service}/migrations/versions") for service in SERVICES)])
    found = {schema: _line(_ROOT / folder) for schema, folder in folders.items()}
    return {schema: line for schema, line in found.items() if line}


def _line(folder: Path) -> tuple[str, ...]:
    """The revisions in *folder* from the first to the head; each names the one before it."""
    after = dict(_links(path) for path in folder.glob("[!_]*.py"))
    line: list[str] = []
    before: str | None = None
    while before in after:
        before = after[before]
        line.append(before)
    return tuple(line)


def _links(path: Path) -> tuple[str | None, str]:
    """(revision before, revision) of one migration."""
    told: dict[str, str | None] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign):
            told |= _assigned(statement)
    return told.get("down_revision"), str(told["revision"])


def _assigned(statement: ast.Assign) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for target in statement.targets:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
        for name, value in zip(names, values, strict=False):
            if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                found[name.id] = None if value.value is None else str(value.value)
    return found
