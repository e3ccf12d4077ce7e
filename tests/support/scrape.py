"""What the backup service of a test tells a scraper."""

import re
import socket

from tests.support.backup import Archived, Service, wait_until

METRICS = "metrics.sock"


def scraped(service: Service) -> str:
    """What a scraper gets; the operator socket is there first."""
    wait_until(lambda: _listens(service), "the listener of metrics")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(service.run / METRICS))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def _listens(service: Service) -> bool:
    """Whether somebody answers there: the path is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(service.run / METRICS)) == 0


def value(service: Service, series: str) -> float:
    """The value of one series, -1 when it is not there."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", scraped(service), re.MULTILINE)
    return float(found[1]) if found else -1.0


def metrics_at(archived: Archived, name: str) -> str:
    return f"unix:{archived.base / 'run' / name / METRICS}"
