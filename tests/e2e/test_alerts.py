"""Alert rules against what the services of a running stack really tell."""

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.alerts import Selector, alerts
from tests.support.stack import Stack

SERVICES = ("auth", "files", "events", "backup")
Told = dict[str, list[tuple[str, dict[str, str]]]]


def told(stack: Stack) -> Told:
    """By service: name and labels of each series."""
    found: Told = {}
    for service in SERVICES:
        url = f"http://127.0.0.1:{stack.parts.ports[f'{service}_metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        found[service] = [(one.name, dict(one.labels)) for family in families for one in family.samples]
    return found


def missing(wanted: Selector, series: Told) -> bool:
    """Whether no service tells what is asked for, or the one that has to does not."""
    services = [wanted.service.replace("\\", "")] if wanted.service else list(SERVICES)
    here = [one for service in services for one in series[service]]
    return not any(name == wanted.metric and wanted.fits(labels) for name, labels in here)


@pytest.mark.stack
def test_every_series_that_a_rule_reads_is_told_by_a_fresh_stack(stack: Stack) -> None:
    series = told(stack)
    read = {one for alert in alerts() for one in alert.selectors if one.metric != "up"}
    assert len(read) > 60
    assert sorted(f"{one.metric} {one.service} {one.own}" for one in read if missing(one, series)) == []
    # The control: a misspelt label, a misspelt name, and a service that does not tell it.
    assert missing(Selector("holdfast_backup_condition", (("condition", "rpo_brokn"),), ""), series)
    assert missing(Selector("holdfast_backup_rpo_exposure", (), ""), series)
    assert missing(Selector("holdfast_jobs_ready", (), "events"), series)


@pytest.mark.stack
def test_a_scrape_puts_no_label_of_its_own_over_one_that_a_service_tells(stack: Stack) -> None:
    """It would be renamed to exported_…, and the rules that ask for it would read nothing."""
    ours = {"service", "job", "instance"}
    assert [(name, labels) for some in told(stack).values() for name, labels in some if ours & set(labels)] == []
