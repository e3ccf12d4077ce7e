"""Prometheus: what is scraped, and how often. The targets are those of one machine; elsewhere they come from
discovery.
"""

import json
from collections.abc import Mapping

SCRAPE = "15s"


def render(targets: Mapping[str, str], paths: Mapping[str, str]) -> str:
    """prometheus.yml, as JSON, which is YAML too. targets: job → host:port; paths: job → path where it is not
    /metrics.
    """
    jobs = [
        {
            "job_name": job,
            "metrics_path": paths.get(job, "/metrics"),
            "static_configs": [{"targets": [target], "labels": {"service": job}}],
        }
        for job, target in sorted(targets.items())
    ]
    return json.dumps(
        {"global": {"scrape_interval": SCRAPE, "scrape_timeout": "10s"}, "scrape_configs": jobs}, indent=1
    )
