"""What every channel of ours has: keepalive, bounds, and retries that the contract allows."""

import json
from collections.abc import Iterable

from google.protobuf import descriptor

from holdfast.common.v1 import policy_pb2

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 1),
)
RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""gRPC adds its own jitter. Source: gRFC A6."""


def retry_config(files: Iterable[descriptor.FileDescriptor]) -> str:
    """The service config that retries UNAVAILABLE on the methods of *files* declared READ, and nothing else."""
    names = [
        {"service": service.full_name, "method": method.name}
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        if method.GetOptions().Extensions[policy_pb2.policy].effect == policy_pb2.EFFECT_READ
    ]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": RETRY}]})
