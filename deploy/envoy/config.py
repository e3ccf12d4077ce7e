"""Fills `envoy.yaml`: addresses, limits, routes and clusters of one edge."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from deploy.envoy import routes
from libs.rpc import policy

Json = dict[str, Any]
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024 + 64 * 1024  # a service's own limit, and room for framing
IDENTITY = (
    r"(?i)x[^a-z0-9]?(user|service)[^a-z0-9].*"  # x-user-token, x.user.token, x-user-token-bin, x-service-token …
)
SECURITY_HEADERS: Mapping[str, str] = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
}
CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What differs between places.

    upstreams: target by cluster, `unix:/path` or `host:port`: `<service>_grpc` for each service, `auth_check`,
    `files_http`, `events_http`. certificate_file: a file of the secret discovery service, see certificate_document.
    admin_socket: path of the admin pipe. contract_image: the descriptor image that `make protos` builds.
    """

    host: str
    edge_port: int
    redirect_port: int
    metrics_host: str
    metrics_port: int
    admin_socket: str
    certificate_file: Path
    contract_image: Path
    upstreams: Mapping[str, str]
    allowed_origins: tuple[str, ...]
    anonymous_per_minute: int
    address_per_minute: int
    max_upload_bytes: int


def render(edge: Edge) -> str:
    """The whole configuration, as YAML."""
    made = routes.http_routes(policy.HTTP_ROUTES, edge.max_upload_bytes) + routes.method_routes(policy.all_methods())
    values: Json = {
        "admin_socket": edge.admin_socket,
        "host": edge.host,
        "edge_port": edge.edge_port,
        "redirect_port": edge.redirect_port,
        "metrics_host": edge.metrics_host,
        "metrics_port": edge.metrics_port,
        "certificate_file": str(edge.certificate_file),
        "certificate_directory": str(edge.certificate_file.parent),
        "contract_image": str(edge.contract_image),
        "json_services": json_services(),
        "early_mutations": [*identity_mutations(), bounded_request_id()],
        "identity_mutations": identity_mutations(),
        "response_mutations": response_mutations(),
        "access_log": access_log(),
        "anonymous_per_minute": edge.anonymous_per_minute,
        "address_per_minute": edge.address_per_minute,
        "told_content_type": told_content_type(),
        "check_headers": [{"exact": name} for name in routes.CHECK_HEADERS],
        "check_nowhere": routes.check("/nowhere"),
        "max_message_bytes": MAX_MESSAGE_BYTES,
        "rate_limits": routes.rate_limits(policy.all_methods()),
        "allowed_origins": [{"exact": origin} for origin in edge.allowed_origins],
        "routes": made,
        "clusters": [cluster(name, target) for name, target in sorted(edge.upstreams.items())]
        + [cluster("admin", f"unix:{edge.admin_socket}")],
    }
    template = Template((resources.files("deploy.envoy") / "envoy.yaml").read_text(encoding="utf-8"))
    return template.substitute({name: json.dumps(value) for name, value in values.items()})


def json_services() -> list[str]:
    """The services that callers from outside may reach, by full name: their unary methods take JSON too."""
    declared = policy.all_methods().items()
    return sorted({path.split("/")[1] for path, method in declared if method.access is not policy.Access.SERVICE})


def identity_mutations() -> list[Json]:
    """Removes every header that could be taken for an identity, in any spelling that survives the codec."""
    pattern = {"key_matcher": {"safe_regex": {"regex": IDENTITY}}}
    return [{"remove": "x-user-token"}, {"remove": "x-service-token"}, {"remove_on_match": pattern}]


def bounded_request_id() -> Json:
    """Cuts a client's x-request-id to 64 characters."""
    header = {"key": "x-request-id", "value": "%REQ(x-request-id):64%"}
    return {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS"}}


def told_content_type() -> list[Json]:
    """Tells the check the content type by another name.

    With content-type: application/grpc the request to the check would itself count as a gRPC call, and Envoy's own
    answer for a check that is away would be HTTP 200 with a grpc-status: an approval (tried).
    """
    header = {"key": routes.TOLD_CONTENT_TYPE, "value": "%REQ(content-type)%"}
    return [
        {"remove": routes.TOLD_CONTENT_TYPE},
        {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
    ]


def response_mutations() -> list[Json]:
    """Security headers on every answer, also on those that the edge makes itself; the name of the server's program is
    removed.
    """
    fixed = [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in SECURITY_HEADERS.items()
    ]
    content = {"key": "content-security-policy", "value": CONTENT_POLICY}
    return [*fixed, {"append": {"header": content, "append_action": "ADD_IF_ABSENT"}}, {"remove": "server"}]


def access_log() -> Json:
    """One JSON line a request on standard output. No path, query, address or credential: a file's name and an address
    are personal (A4).
    """
    line = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "route": "%ROUTE_NAME%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "upstream": "%UPSTREAM_CLUSTER%",
    }
    return {
        "name": "stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": line},
        },
    }


def cluster(name: str, target: str) -> Json:
    """An upstream. gRPC ones speak HTTP/2; the others HTTP/1 and give idle connections up before the server does."""
    if target.startswith("unix:"):
        address: Json = {"pipe": {"path": target.removeprefix("unix:")}}
        kind = "STATIC"
    else:
        host, _, port = target.rpartition(":")
        address = {"socket_address": {"address": host, "port_value": int(port)}}
        kind = "STRICT_DNS"
    version = "http2_protocol_options" if name.endswith("_grpc") else "http_protocol_options"
    common = {} if name.endswith("_grpc") else {"common_http_protocol_options": {"idle_timeout": "4s"}}
    options = {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": {version: {}}, **common}
    return {
        "name": name,
        "type": kind,
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": {
            "thresholds": [{"max_connections": 20000, "max_pending_requests": 4096, "max_requests": 20000}]
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def certificate_document(certificate: Path, key: Path) -> str:
    """The secret discovery file that names the certificate, as JSON."""
    pair = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "edge",
        "tls_certificate": {**pair, "watched_directory": {"path": str(certificate.parent)}},
    }
    return json.dumps({"resources": [secret]})
