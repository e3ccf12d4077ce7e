"""The alert rules as tests read them, without Prometheus: what each says, and which series it reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it has no types of its own

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))

_SELECTOR = re.compile(r'(?<!["\w])(holdfast_\w+|backup_\w+|rpc_\w+|http_\w+|up)\b(?:\{([^}]*)\})?')
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_SCRAPE = ("service", "job", "instance")


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. labels and annotations as written; for_: how long, "" for at once."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    for_: str = ""

    @property
    def selectors(self) -> list["Selector"]:
        """Every selector of the expression."""
        return list(selectors(self.expr))


@dataclass(frozen=True, slots=True)
class Selector:
    """A series that is asked for. own: matchers of labels that a service itself tells; service: whose it has to be."""

    metric: str
    own: tuple[tuple[str, str], ...]
    service: str

    def fits(self, labels: dict[str, str]) -> bool:
        """Whether a series with *labels* is one of those."""
        return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in self.own)


def selectors(expr: str) -> Iterator[Selector]:
    """What *expr* reads."""
    for metric, inside in _SELECTOR.findall(expr):
        matchers = {name: value if kind == "=~" else re.escape(value) for name, kind, value in _MATCHER.findall(inside)}
        own = tuple((name, value) for name, value in matchers.items() if name not in _SCRAPE)
        yield Selector(metric, own, matchers.get("service", ""))


def alerts() -> list[Alert]:
    """All of them."""
    found = []
    for path in RULES:
        for group in _read(path)["groups"]:
            found += [
                Alert(one["alert"], one["expr"], one["labels"], one["annotations"], one.get("for", ""))
                for one in group["rules"]
            ]
    return found


def moments() -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
    """Of each case: its name, which alerts fire at some moment, and which at some moment do not of those that could."""
    for path in CASES:
        whole = _read(path)
        rules = {one["alert"] for file in whole["rule_files"] for one in _rules_of(path.parent / file)}
        for case in whole["tests"]:
            at = [{_name(sample["labels"]) for sample in one["exp_samples"]} for one in case["promql_expr_test"]]
            fired = frozenset[str]().union(*at)
            yield case["name"], fired, frozenset(name for name in rules if any(name not in seen for seen in at))


def longest() -> dict[str, int]:
    """Of each file of cases: up to which hour its longest case evaluates the rules."""
    return {path.name: max(_hours(one["eval_time"]) for one in _moments_of(_read(path))) for path in CASES}


def anchors(path: Path) -> set[str]:
    """What a link into a Markdown file may name: its headings in lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def _rules_of(path: Path) -> list[dict[str, Any]]:
    return [one for group in _read(path)["groups"] for one in group["rules"]]


def _moments_of(cases: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for case in cases["tests"] for one in case["promql_expr_test"]]


def _hours(duration: str) -> int:
    """The hours of a duration of Prometheus, such as 8d2h, rounded down."""
    parts = re.findall(r"(\d+)([dhm])", duration)
    assert "".join(number + unit for number, unit in parts) == duration, duration
    return sum(int(number) * {"d": 1440, "h": 60, "m": 1}[unit] for number, unit in parts) // 60


def _name(labels: str) -> str:
    found = re.search(r'alertname="(\w+)"', labels)
    assert found, labels
    return found[1]


def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
