"""The alert rules: they can be read, each fires and stays silent when it should, and each says what to do."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from deploy import prometheus
from deploy.stack.layout import Layout, settings
from holdfast.cli import main
from services.backup.domain.condition import Name
from tests.support.alerts import CASES, ROOT, RULES, Alert, alerts, anchors, longest, moments, selectors

LEVELS = {"P0": "page", "P1": "page", "P2": "ticket", "P3": "ticket"}
RUNBOOKS = sorted((ROOT / "deploy" / "runbooks").glob("*.md"))


def promtool(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Its answer; it comes with the Debian package prometheus, which `make test` installs."""
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False, timeout=120)


def configured(folder: Path, *, alertmanagers: Sequence[str] = ()) -> Path:
    """A configuration in *folder* as `make up` writes it."""
    rules = prometheus.rules()
    for name, text in rules.items():
        (folder / name).write_text(text, encoding="utf-8")
    written = prometheus.render(
        {"backup": "127.0.0.1:1", "edge": "127.0.0.1:2"},
        {"edge": "/stats/prometheus"},
        rule_files=rules,
        alertmanagers=alertmanagers,
    )
    (folder / "prometheus.yml").write_text(written, encoding="utf-8")
    return folder / "prometheus.yml"


def test_prometheus_takes_the_configuration_with_every_rule(tmp_path: Path) -> None:
    done = promtool("check", "config", configured(tmp_path, alertmanagers=["127.0.0.1:9093"]))
    assert done.returncode == 0, done.stdout + done.stderr
    counted = sum(int(number) for number in re.findall(r"SUCCESS: (\d+) rules found", done.stdout))
    assert counted == len(alerts()) > 40


def test_alerts_go_to_the_alertmanagers_of_the_settings_and_nowhere_without(tmp_path: Path) -> None:
    where = Layout(tmp_path, tmp_path, tmp_path / "run")
    assert settings(where).alertmanagers == ()
    (tmp_path / "settings.json").write_text('{"alertmanagers": ["127.0.0.1:9093"]}', encoding="utf-8")
    assert settings(where).alertmanagers == ("127.0.0.1:9093",)
    told = json.loads(configured(tmp_path, alertmanagers=settings(where).alertmanagers).read_text(encoding="utf-8"))
    assert told["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]


def test_a_rule_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """The control of the test above."""
    path = configured(tmp_path)
    broken = next(tmp_path.glob("rules-jobs-*.yml"))
    broken.write_text(broken.read_text(encoding="utf-8").replace("max by (service)", "max by service", 1))
    assert promtool("check", "config", path).returncode != 0


def test_changed_rules_change_the_configuration_that_names_them() -> None:
    named = set(prometheus.rules())
    assert len(named) == len(RULES)
    assert all(re.fullmatch(r"rules-[a-z]+-[0-9a-f]{12}\.yml", name) for name in named)


@pytest.mark.control("O5", "each alert fires when it should and is silent when it should")
@pytest.mark.control("B2", "RPO above 15 minutes and RTO above 4 hours alert")
@pytest.mark.control("B3", "drills run on a schedule and their absence alerts")
def test_each_alert_fires_when_it_should_and_is_silent_when_it_should() -> None:
    done = promtool("test", "rules", *CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_compacts_its_storage_under_no_case_and_loses_no_sample() -> None:
    """It does beyond 36 hours of a case, beside the evaluation: an alert that was due stayed silent, rarely."""
    assert [name for name, hours in longest().items() if hours >= 36] == []
    assert longest()["jobs-days.yml"] > 24  # control: hours are read


def test_every_alert_has_a_case_that_fires_and_a_moment_in_it_that_is_silent() -> None:
    names = [alert.name for alert in alerts()]
    assert len(set(names)) == len(names)
    proven = {name for _, fired, silent in moments() for name in fired & silent}
    assert sorted(set(names) - proven) == []


@pytest.mark.control("O5", "the absence of each vital series alerts")
def test_every_series_that_a_rule_reads_alerts_when_it_is_absent() -> None:
    watched = {
        one.metric for alert in alerts() for inside in re.findall(r"absent\(([^)]*)\)", alert.expr)
        for one in selectors(inside)
    }  # fmt: skip
    read = {one.metric for alert in alerts() for one in alert.selectors}
    assert sorted(read - watched) == []
    assert "holdfast_backup_rpo_exposure_seconds" in watched
    named = [pair for alert in alerts() for pair in re.findall(r'absent\((\w+)[^)]*\), "series", "(\w+)"', alert.expr)]
    assert len(named) > 50
    assert [pair for pair in named if pair[0] != pair[1]] == []


@pytest.mark.control("B5", "what is too old is found by listing the repository itself, and alarms")
def test_every_condition_of_the_backup_service_has_an_alert() -> None:
    by_gauge = {"rpo_broken": "holdfast_backup_rpo_broken", "data_past_ceiling": "holdfast_backup_objects_past_ceiling"}
    read = {one for alert in alerts() for one in alert.selectors}
    alerted = {value for one in read for label, value in one.own if label == "condition"}
    alerted |= {name for name, metric in by_gauge.items() if metric in {one.metric for one in read}}
    assert alerted == {name.value for name in Name}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(alert: Alert) -> None:
    assert alert.labels["severity"] == LEVELS[alert.labels["level"]]
    assert set(alert.annotations) == {"summary", "runbook"}
    assert 60 < len(alert.annotations["summary"]) < 300
    path, _, anchor = alert.annotations["runbook"].partition("#")
    assert anchor in anchors(ROOT / path)
    assert alert.name in (ROOT / path).read_text(encoding="utf-8")


def test_the_alert_of_nothing_restorable_names_both_of_its_causes() -> None:
    """It said that no good backup is held, also where one is held that has lost its own WAL."""
    (alert,) = [one for one in alerts() if one.name == "BackupNothingRestorable"]
    summary = alert.annotations["summary"]
    assert summary.startswith("Nothing can be restored: ")
    assert "holds no backup, or WAL that every backup in it needs is lost" in summary
    assert "no good backup" not in summary


def commands(text: str) -> list[str]:
    """Every `holdfast …` in a runbook or at the end of a summary."""
    fenced = re.findall(r"^ *(holdfast [a-z].*)$", text, re.MULTILINE)
    return [*re.findall(r"`(holdfast [a-z][^`]*)`", text), *fenced]


def unknown(command: str) -> str:
    """The first word of *command* that the command line does not know; "" when it knows all."""
    at: click.Command = main
    for word in command.split()[1:]:
        if word.startswith("--"):
            options = {name for option in at.params for name in option.opts}
            if word not in options:
                return f"{command}: {word}"
        elif isinstance(at, click.Group):
            if word not in at.commands:
                return f"{command}: {word}"
            at = at.commands[word]
    return f"{command}: unfinished" if isinstance(at, click.Group) else ""


def test_every_command_of_the_runbooks_and_summaries_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in RUNBOOKS]
    told = [command for text in texts for command in commands(text)]
    for alert in alerts():
        told += [
            part.rstrip(".")
            for part in re.findall(r"holdfast (?:[a-z]+ ?)+(?:--\w+ \w+)?", alert.annotations["summary"])
        ]
    assert [fault for fault in map(unknown, told) if fault] == []
    assert len(told) > 80
    assert unknown("holdfast backup undo") == "holdfast backup undo: undo"
    assert unknown("holdfast backup list --loud") == "holdfast backup list --loud: --loud"
