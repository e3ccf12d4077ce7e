"""Prometheus: what is scraped, how often, and what alerts. The targets are those of one machine; elsewhere they come
from discovery, each job named by its service.

rules/ holds the alert rules, tests/ for each rule a case in which it fires and one in which it does not
(`promtool test rules`), deploy/runbooks what to do. Nothing leaves Prometheus by itself: where an Alertmanager is told
of (`alertmanagers` in the stack's settings.json), alerts go there; alertmanager.yml is one to begin with. Whether
Prometheus itself is alive somebody outside has to ask.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import resources

SCRAPE = "15s"


def rules() -> dict[str, str]:
    """The text of each file of rules by a name that holds its digest: changed rules change what names them."""
    found = {}
    for entry in (resources.files("deploy.prometheus") / "rules").iterdir():
        text = entry.read_text(encoding="utf-8")
        found[f"rules-{entry.name.removesuffix('.yml')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yml"] = text
    return found


def render(
    targets: Mapping[str, str],
    paths: Mapping[str, str],
    *,
    rule_files: Iterable[str] = (),
    alertmanagers: Iterable[str] = (),
) -> str:
    """prometheus.yml, as JSON, which is YAML too.

    targets: job → host:port; paths: job → path where it is not /metrics; rule_files: beside the file, or absolute;
    alertmanagers: host:port of each.
    """
    jobs = [
        {
            "job_name": job,
            "metrics_path": paths.get(job, "/metrics"),
            "static_configs": [{"targets": [target], "labels": {"service": job}}],
        }
        for job, target in sorted(targets.items())
    ]
    whole = {
        "global": {"scrape_interval": SCRAPE, "scrape_timeout": "10s", "evaluation_interval": SCRAPE},
        "rule_files": sorted(rule_files),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": sorted(alertmanagers)}]}]},
        "scrape_configs": jobs,
    }
    return json.dumps(whole, indent=1)
