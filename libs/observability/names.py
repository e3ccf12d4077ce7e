"""Names of metrics and attributes, once. Source: OpenTelemetry semantic conventions (RPC, HTTP)."""

# The status attribute has been renamed before (rpc.grpc.status_code) and may be again: it stands here only.
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
RPC_SYSTEM = "rpc.system.name"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
HTTP_ROUTE = "http.route"
SERVICE_NAME = "service.name"

RPC_METHOD_LABEL = "rpc_method"
RPC_STATUS_LABEL = "rpc_response_status_code"
HTTP_METHOD_LABEL = "http_request_method"
HTTP_STATUS_LABEL = "http_response_status_code"
HTTP_ROUTE_LABEL = "http_route"

RPC_DURATION = "rpc_server_call_duration_seconds"
RPC_STARTED = "rpc_server_started_total"
RPC_HANDLED = "rpc_server_handled_total"
HTTP_DURATION = "http_server_request_duration_seconds"

OTHER = "_OTHER"
"""Stands for every method, route or status that is not declared, so that a stranger cannot make series."""

DURATION_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket boundaries of every duration."""

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The seventeen gRPC status codes in the order of their numbers."""

SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The codes that count as the server's failure; the rest are the caller's."""
