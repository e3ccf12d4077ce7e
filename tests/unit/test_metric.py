"""Metrics: series that exist before the first call, and none that a stranger makes."""

import httpx
import pytest

from libs.observability import names
from libs.observability.metric import Metrics, MetricsServer, exposition

METHOD = "holdfast.files.v1.FileService/GetFile"


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def handled(metrics: Metrics, method: str, code: str) -> float | None:
    labels = {names.RPC_METHOD_LABEL: method, names.RPC_STATUS_LABEL: code}
    return metrics.registry.get_sample_value(names.RPC_HANDLED, labels)


def test_every_code_of_a_declared_method_has_a_series_before_the_first_call() -> None:
    metrics = Metrics()
    assert handled(metrics, METHOD, "OK") is None
    metrics.declare_rpc(["/" + METHOD])
    assert [handled(metrics, METHOD, code) for code in names.CODES] == [0] * 17
    assert value(metrics, names.RPC_STARTED, rpc_method=METHOD) == 0
    assert value(metrics, names.RPC_DURATION + "_count", rpc_method=METHOD, rpc_response_status_code="OK") == 0


def test_a_call_is_counted_at_its_begin_and_at_its_end_with_its_duration() -> None:
    metrics = Metrics()
    metrics.declare_rpc([METHOD])
    metrics.rpc_started("/" + METHOD)
    assert value(metrics, names.RPC_STARTED, rpc_method=METHOD) == 1
    assert handled(metrics, METHOD, "NOT_FOUND") == 0
    metrics.rpc_handled("/" + METHOD, "NOT_FOUND", 0.03)
    assert handled(metrics, METHOD, "NOT_FOUND") == 1
    labels = {"rpc_method": METHOD, "rpc_response_status_code": "NOT_FOUND"}
    buckets = [
        value(metrics, names.RPC_DURATION + "_bucket", le=le, **labels) for le in ("0.025", "0.05", "10.0", "+Inf")
    ]
    assert buckets == [0, 1, 1, 1]
    assert len(names.DURATION_SECONDS) == 14


def test_strangers_cannot_make_series() -> None:
    metrics = Metrics()
    metrics.declare_rpc([METHOD])
    metrics.declare_http(["/v1/events"])
    for number in range(50):
        metrics.rpc_started(f"x.Y/Z{number}")
        metrics.rpc_handled(f"x.Y/Z{number}", f"CODE{number}", 0.1)
        metrics.http_handled(f"/path/{number}", f"VERB{number}", 1000 + number, 0.1)
        if number == 0:
            size = exposition(metrics.registry).count(b"\n")
    assert exposition(metrics.registry).count(b"\n") == size
    assert handled(metrics, names.OTHER, names.OTHER) == 50
    other = {"http_route": names.OTHER, "http_request_method": names.OTHER, "http_response_status_code": names.OTHER}
    assert value(metrics, names.HTTP_DURATION + "_count", **other) == 50
    metrics.http_handled("/v1/events", "GET", 200, 0.1)
    known = {"http_route": "/v1/events", "http_request_method": "GET", "http_response_status_code": "200"}
    assert value(metrics, names.HTTP_DURATION + "_count", **known) == 1


@pytest.mark.control("O6", "no person is a label")
@pytest.mark.parametrize("label", ["user_id", "organization_id", "email", "session_id"])
def test_a_label_that_names_a_person_or_organization_is_refused(label: str) -> None:
    metrics = Metrics()
    for make in (metrics.counter, metrics.gauge, metrics.histogram):
        make(f"fine_{make.__name__}", "Fine.", ["kind"])
        with pytest.raises(ValueError, match=label):
            make(f"bad_{make.__name__}", "Bad.", ["kind", label])


def test_a_metric_asked_for_twice_is_one() -> None:
    metrics = Metrics()
    metrics.counter("jobs_total", "Jobs.", ["kind"]).labels("a").inc()
    metrics.counter("jobs_total", "Jobs.", ["kind"]).labels("a").inc()
    assert value(metrics, "jobs_total", kind="a") == 2


@pytest.mark.control("O6", "metrics have a private listener")
async def test_the_listener_answers_get_metrics_and_nothing_else() -> None:
    metrics = Metrics()
    metrics.declare_rpc([METHOD])
    server = MetricsServer("127.0.0.1:0", metrics.registry)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", trust_env=False) as client:
            answer = await client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            assert f'rpc_server_started_total{{rpc_method="{METHOD}"}} 0.0' in answer.text
            statuses = [
                (await client.get("/")).status_code,
                (await client.post("/metrics")).status_code,
                (await client.post("/metrics", content=b"x")).status_code,
            ]
            assert statuses == [404, 405, 413]
    finally:
        await server.stop()


async def test_no_address_listens_nowhere() -> None:
    server = MetricsServer("", Metrics().registry)
    await server.start()
    server.refuse()
    await server.drain(0)
    await server.stop()
    assert server.address == ""
