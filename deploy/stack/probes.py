"""Questions that doctor asks of the running parts."""

import http.client
import socket
import ssl
import subprocess
import warnings

from deploy.stack.parts import PLAIN, Parts
from deploy.stack.supervise import drop_prefix

REQUIRED_HEADERS = (
    "strict-transport-security", "x-frame-options", "x-content-type-options", "referrer-policy", "permissions-policy",
    "content-security-policy",
)  # fmt: skip


def self_check(parts: Parts, service: str) -> subprocess.Popen[str]:
    """Start a service's own `check` as the user it runs as; it prints one JSON object."""
    command = [*drop_prefix(), str(parts.where.python), "-m", f"services.{service}", "check", "--json"]
    environment = {**PLAIN, "HOME": str(parts.where.state), **parts.service_environment(service)}
    return subprocess.Popen(
        command, cwd=parts.where.state, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def edge_answer(parts: Parts) -> tuple[str, dict[str, str]]:
    """The TLS version and the headers of an answer of the edge, its certificate verified. Raises OSError."""
    trust = ssl.create_default_context(cafile=str(parts.where.ca_file))
    connection = http.client.HTTPSConnection("127.0.0.1", parts.ports["edge"], timeout=5, context=trust)
    try:
        connection.request("GET", "/")
        reply = connection.getresponse()
        reply.read()
        version = connection.sock.version() if isinstance(connection.sock, ssl.SSLSocket) else ""
        return version or "", {name.lower(): value for name, value in reply.getheaders()}
    finally:
        connection.close()


def accepts(parts: Parts, version: ssl.TLSVersion) -> bool:
    """Whether the edge shakes hands at exactly this version, with every cipher this library still has offered."""
    context = ssl.create_default_context(cafile=str(parts.where.ca_file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asking for an old version is the point
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with socket.create_connection(("127.0.0.1", parts.ports["edge"]), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1"):
                return True
    except (ssl.SSLError, ConnectionError):
        return False
