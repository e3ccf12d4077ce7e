"""Which promises of the requirements a test run has kept.

A test says which clause of which promise it keeps: `@pytest.mark.control("T4", "another tenant's name is refused …")`.
`tests/clauses.toml` cuts each promise into clauses, those not built yet among them; a promise is kept when each of its
clauses has a test that passed. A mark whose clause is not in the file stops the run before the first test.
`pytest --promises` prints the list.
"""

import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

CLAUSES = Path(__file__).resolve().parents[1] / "clauses.toml"
Clause = tuple[str, str]


def declared() -> dict[str, list[str]]:
    """The clauses of each promise, in the file's order."""
    return {id_: list(body["clauses"]) for id_, body in tomllib.loads(CLAUSES.read_text()).items()}


def marked(item: pytest.Item) -> Iterator[Clause]:
    """The clauses that one test keeps."""
    for mark in item.iter_markers("control"):
        yield mark.args[0], mark.args[1]


class Promises:
    """Collects what passed and prints it at the end."""

    def __init__(self) -> None:
        self.clauses = declared()
        self.by_test: dict[str, list[Clause]] = {}
        self.passed: dict[Clause, bool] = defaultdict(lambda: True)
        self.seen: set[Clause] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse marks that name no known clause."""
        for item in items:
            self.by_test[item.nodeid] = list(marked(item))
        unknown = {clause for clauses in self.by_test.values() for clause in clauses if not self._known(clause)}
        if unknown:
            listed = "\n".join(f"  {id_}: {text}" for id_, text in sorted(unknown))
            raise pytest.UsageError(f"marks that name no clause of {CLAUSES.name}:\n{listed}")

    def _known(self, clause: Clause) -> bool:
        return clause[1] in self.clauses.get(clause[0], [])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what each marked test did."""
        for clause in self.by_test.get(report.nodeid, []):
            if report.failed or report.skipped:
                self.passed[clause] = False
            if report.when == "call":
                self.seen.add(clause)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the promises, whole ones first."""
        kept = {clause for clause in self.seen if self.passed[clause]}
        terminalreporter.section("promises")
        for id_, clauses in self.clauses.items():
            missing = [text for text in clauses if (id_, text) not in kept]
            verdict = "kept" if not missing else f"{len(clauses) - len(missing)} of {len(clauses)} clauses"
            terminalreporter.write_line(f"{id_:4} {verdict}" + "".join(f"\n       not: {text}" for text in missing))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that prints the promises."""
    parser.addoption("--promises", action="store_true", help="print which promises this run has kept")


def pytest_configure(config: pytest.Config) -> None:
    """Check the marks always; print only when asked."""
    promises = Promises()
    if not config.getoption("--promises"):
        promises.pytest_terminal_summary = lambda terminalreporter: None  # type: ignore[method-assign]
    config.pluginmanager.register(promises, "holdfast-promises")
