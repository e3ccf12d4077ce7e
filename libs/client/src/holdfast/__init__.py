"""The Holdfast client: generated stubs `holdfast.*.v1`, a high-level `Client`, typed errors, and `holdfast.usertoken`.

`holdfast.usertoken` verifies the user token that Holdfast's edge puts on every call, and has an interceptor that
other people mount on their own grpc.aio service. Nothing here imports the server's code.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.client import Client as Client
    from holdfast.errors import HoldfastError as HoldfastError

__all__ = ["Client", "HoldfastError"]


def __getattr__(name: str) -> object:
    """Load the client only when it is asked for: a server that imports stubs pays for nothing else."""
    if name == "Client":
        from holdfast.client import Client

        return Client
    if name == "HoldfastError":
        from holdfast.errors import HoldfastError

        return HoldfastError
    raise AttributeError(name)
