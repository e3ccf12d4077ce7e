"""The two servers of P5, the same servicer in each: `python -m tests.bench.echo_server bare|chain`.

Prints its port when it serves; ends when its standard input does.
chain is libs.rpc.Server with every stage and a verified token.
"""

import asyncio
import os
import sys

import grpc
from prometheus_client import CollectorRegistry

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server
from holdfast.usertoken import Verifier
from libs.observability import log
from libs.observability.metric import Metrics
from libs.rpc.health import Health
from libs.rpc.server import Server
from tests.support import tokens

SERVER_CORE = 0


class Echo(AuthServiceServicer):
    """Answers GetMe with a constant of ordinary size."""

    answer = pb.GetMeResponse(
        user=pb.User(name="organizations/org1/users/user1", display_name="Ada", email="ada@example.com")
    )

    async def GetMe(self, request: pb.GetMeRequest, context: object) -> pb.GetMeResponse:
        """The constant."""
        return self.answer


async def bare() -> int:
    """Plain grpc.aio with no interceptor; its port."""
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(Echo(), server)  # type: ignore[abstract] # only GetMe is called
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    KEPT.append(server)
    return port


async def chain() -> int:
    """The whole chain; its port."""
    service = pb.DESCRIPTOR.services_by_name["AuthService"]
    held = tokens.keys("auth")  # as a service holds them: read once, replaced when the file changes
    server = Server(
        "127.0.0.1:0",
        [(add_AuthServiceServicer_to_server, Echo(), service)],  # type: ignore[abstract] # only GetMe is called
        service="auth",
        verifier=Verifier("auth", lambda: held),
        health=Health(),
        metrics=Metrics(CollectorRegistry()),
    )
    await server.start()
    KEPT.append(server)
    return server.port


KEPT: list[object] = []


async def main(which: str) -> None:
    """Serve until standard input ends."""
    log.configure("bench", "json", "WARNING")
    print(await {"bare": bare, "chain": chain}[which](), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    os.sched_setaffinity(0, {SERVER_CORE})
    asyncio.run(main(sys.argv[1]))
