"""Routes of the edge from the contract: exact path per method, prefix per HTTP route, each with its audience and its
timeouts.

A path that nobody declared has no route. gRPC routes carry no `grpc` matcher: it would refuse gRPC-web and preflights
(tried).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from libs.rpc import policy
from libs.rpc.policy import Access

Json = dict[str, Any]
TYPE = "type.googleapis.com/envoy.extensions.filters.http."
NOT_BUFFERED = {"@type": f"{TYPE}buffer.v3.BufferPerRoute", "disabled": True}
UNARY_SECONDS = 15
STREAM_IDLE_SECONDS = 60
SSE_IDLE_SECONDS = 45  # three heartbeats of 15 s
TOLD_CONTENT_TYPE = "x-original-content-type"
CHECK_HEADERS = (
    "cookie", "authorization", "origin", TOLD_CONTENT_TYPE, "x-csrf-token", "x-request-id", "referer", "sec-fetch-site",
)  # fmt: skip
DENIAL_HEADERS = (
    "content-type", "www-authenticate", "grpc-status", "grpc-message", "grpc-status-details-bin", "set-cookie",
    "retry-after",
)  # fmt: skip
CREDENTIALS = ("cookie", "authorization")
SIGNED_IN = r"(^|.*;\s*)__(Host-session|Secure-refresh)=.+"


def check(prefix: str) -> Json:
    """How auth is asked for a route: over its own HTTP cluster, with the audience as the first path segment."""
    return {
        "server_uri": {"uri": "http://auth", "cluster": "auth_check", "timeout": "1s"},
        "path_prefix": prefix,
        "authorization_response": {
            "allowed_upstream_headers": {"patterns": [{"exact": "x-user-token"}]},
            "allowed_client_headers": {"patterns": [{"exact": name} for name in DENIAL_HEADERS]},
        },
    }


def rate_limits(methods: Mapping[str, policy.MethodPolicy]) -> list[Json]:
    """What a request counts against: its address, and the anonymous limit when it is public or carries no credential
    (R1).

    A public method counts in any case, or an invented credential would lift the limit from signing in. The last two
    entries exclude each other, so that no request counts twice.
    """
    address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
    paths = sorted(path for path, declared in methods.items() if declared.access is Access.PUBLIC)
    public = {
        "name": ":path",
        "string_match": {"safe_regex": {"regex": f"({'|'.join(map(re.escape, paths))})(\\?.*)?"}},
    }
    cookie = {
        "name": "cookie",
        "string_match": {"safe_regex": {"regex": SIGNED_IN}},
        "treat_missing_header_as_empty": True,
    }
    token = {"name": "authorization", "present_match": True}
    without = [{**header, "invert_match": True} for header in (public, cookie, token)]
    return [
        {"actions": [address]},
        {"actions": [address, _anonymous([public])]},
        {"actions": [address, _anonymous(without)]},
    ]


def _anonymous(headers: list[Json]) -> Json:
    return {"header_value_match": {"descriptor_key": "caller", "descriptor_value": "anonymous", "headers": headers}}


def route(name: str, match: Json, cluster: str, owner: str, timing: Json, *, whole_body: bool) -> Json:
    """One route. whole_body: whether the request is one message, held to the message limit; else it streams through."""
    filters: Json = {
        "envoy.filters.http.ext_authz": {
            "@type": f"{TYPE}ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {"http_service": check(f"/{owner}")},
        }
    }
    if not whole_body:
        filters["envoy.filters.http.buffer"] = NOT_BUFFERED
    action: Json = {"cluster": cluster, **timing}
    # The refresh cookie is auth's own business; the others live by the user token.
    removed = [TOLD_CONTENT_TYPE, *(() if owner == "auth" else CREDENTIALS)]
    return {
        "name": name,
        "match": match,
        "route": action,
        "typed_per_filter_config": filters,
        "request_headers_to_remove": removed,
    }


def method_routes(methods: Mapping[str, policy.MethodPolicy]) -> list[Json]:
    """A route for each method, except those that only services may call."""
    # Not `timeout`: Envoy ignores it on a route that takes the caller's grpc-timeout (tried).
    limit = f"{UNARY_SECONDS}s"
    unary = {"max_stream_duration": {"max_stream_duration": limit, "grpc_timeout_header_max": limit}}
    stream = {"timeout": "0s", "idle_timeout": f"{STREAM_IDLE_SECONDS}s"}
    return [
        route(
            path.removeprefix("/"),
            {"path": path},
            f"{declared.audience}_grpc",
            declared.audience,
            stream if declared.client_streaming or declared.server_streaming else unary,
            whole_body=not declared.client_streaming,
        )
        for path, declared in sorted(methods.items())
        if declared.access is not Access.SERVICE
    ]


def http_routes(declared: Sequence[policy.RoutePolicy], max_upload_bytes: int) -> list[Json]:
    """A route for each declared path, whatever the method: preflights have to find it, and auth refuses the rest."""
    made: list[Json] = []
    for path, owner in sorted({(one.prefix, one.audience) for one in declared}):
        events = owner == "events"
        idle = SSE_IDLE_SECONDS if events else STREAM_IDLE_SECONDS
        match: Json = {"prefix": path} if path.endswith("/") else {"path": path}
        if not events:
            made += [too_large(match, max_upload_bytes), length_required(match)]
        timing = {"timeout": "0s", "idle_timeout": f"{idle}s"}
        made.append(route(path, match, f"{owner}_http", owner, timing, whole_body=events))
    return made


def too_large(match: Json, limit: int) -> Json:
    """A route ahead of the real one that refuses a declared length above *limit* before any of it is read."""
    length = {"name": "content-length", "range_match": {"start": limit + 1, "end": (1 << 63) - 1}}
    return _refused("too_large", {**match, "headers": [length]}, 413, "The body is larger than this edge lets pass.")


def length_required(match: Json) -> Json:
    """A route that refuses a PUT that declares neither a length nor a chunked body.

    HTTP reads that as an empty body, Envoy declares it so, and a forgotten body would replace a file by nothing.
    """
    put = {"name": ":method", "string_match": {"exact": "PUT"}}
    absent = [{"name": name, "present_match": False} for name in ("content-length", "transfer-encoding")]
    words = "Content-Length has to be declared; 0 stores an empty file."
    return _refused("length_required", {**match, "headers": [put, *absent]}, 411, words)


def _refused(name: str, match: Json, status: int, words: str) -> Json:
    return {
        "name": name,
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": f"{words}\n"}},
        "typed_per_filter_config": {
            "envoy.filters.http.ext_authz": {"@type": f"{TYPE}ext_authz.v3.ExtAuthzPerRoute", "disabled": True},
            "envoy.filters.http.buffer": NOT_BUFFERED,  # else the answer waits for the body (tried)
        },
    }
