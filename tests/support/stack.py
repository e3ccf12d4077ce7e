"""A whole stack for tests: its own directories, sockets and ports, beside whatever else runs on the machine.

It runs what is installed, so the checkout is installed first (a moment when nothing changed). One stack serves the
session.
"""

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from deploy.stack import tour, visitors
from deploy.stack.edge import Edge
from deploy.stack.layout import Layout, Settings, checkout_home, run_directory
from deploy.stack.parts import Parts
from deploy.stack.supervise import Supervisor
from deploy.stack.up import known
from holdfast.auth.v1 import auth_service_pb2 as auth
from libs.rpc import policy
from tests.support import samples

AUTH = "/holdfast.auth.v1.AuthService"
ROOT = Path(__file__).resolve().parents[2]
COMMAND_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody signed in. user: organizations/{o}/users/{u}; token: bearer access token."""

    email: str
    password: str
    user: str
    token: str
    edge: Edge


class Stack:
    """A running stack in *home*; what is not set has the default of Settings, but for a limit that tests would hit."""

    def __init__(self, home: Path, **settings: Any) -> None:
        programs = checkout_home()
        self.layout = Layout(home, programs, run_directory(home))
        wanted = {"anonymous_per_minute": 1_000_000, "address_per_minute": 1_000_000, "prometheus": False} | settings
        chosen = asdict(Settings(**wanted))
        (home / "settings.json").write_text(json.dumps(chosen), encoding="utf-8")
        self.environment = {
            **os.environ,
            "HOLDFAST_HOME": str(home),
            "HOLDFAST_PROGRAMS": str(programs),
            "NAME": self.name,
        }
        self.environment.pop("PYTHONPATH", None)

    @property
    def name(self) -> str:
        """What `clean` asks for."""
        return self.layout.run.name

    def command(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m deploy.stack …` to its end, as the Makefile would."""
        return subprocess.run(
            [str(self.layout.python), "-m", "deploy.stack", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def up(self) -> None:
        """Bring it up, or fail with what it said."""
        done = self.command("up", "--no-tour")
        assert done.returncode == 0, done.stdout + done.stderr

    def clean(self) -> None:
        """Destroy it."""
        done = self.command("clean")
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def document(self) -> dict[str, Any]:
        """stack.json as it is now."""
        return dict(json.loads(self.layout.stack_json.read_text(encoding="utf-8")))

    @property
    def parts(self) -> Parts:
        """Its parts, ports and secrets."""
        return known(self.layout)

    @property
    def supervisor(self) -> Supervisor:
        """What runs its parts."""
        return Supervisor(self.layout)

    @property
    def edge_url(self) -> str:
        """https://127.0.0.1:PORT."""
        return str(self.document["edge_url"])

    @property
    def ca_file(self) -> Path:
        """What to trust."""
        return self.layout.ca_file

    def where(self) -> tour.Where:
        """What a tour needs to know."""
        cluster = self.parts.cluster
        return tour.Where(
            edge_url=self.edge_url,
            ca_file=str(self.ca_file),
            mail_dir=self.layout.mail,
            operator_socket=str(self.layout.operator_socket),
            forget=lambda emails: visitors.forget(cluster, emails),
        )

    def person(self) -> Person:
        """Somebody new in an organization of their own: registered, verified by mail, signed in."""
        email, password = f"test-{secrets.token_hex(6)}@example.com", secrets.token_urlsafe(18)
        edge = Edge(self.edge_url, str(self.ca_file))
        edge.call(
            f"{AUTH}/Register",
            auth.RegisterRequest(email=email, password=password, display_name="Test"),
            auth.RegisterResponse,
        )
        token = visitors.mailed_token(self.layout.mail, email)
        edge.call(f"{AUTH}/VerifyEmail", auth.VerifyEmailRequest(token=token), auth.VerifyEmailResponse)
        asked = auth.SignInRequest(email=email, password=password, delivery=auth.DELIVERY_TOKENS)
        answer = edge.call(f"{AUTH}/SignIn", asked, auth.SignInResponse)
        edge.token = answer.session.access_token
        return Person(email, password, answer.user.name, edge.token, edge)

    def refusal_reason(self, edge: Edge, path: str, request: Message) -> str:
        """The ErrorInfo reason that a unary method answers *request* with; "" when it serves it, the code's name
        without
        one.
        """
        assert not policy.all_methods()[path].client_streaming
        trust = grpc.ssl_channel_credentials(self.ca_file.read_bytes())
        metadata = (("authorization", f"Bearer {edge.token}"),) if edge.token else ()
        with grpc.secure_channel(self.edge_url.removeprefix("https://"), trust) as channel:
            call = channel.unary_unary(
                path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=samples.answer_class(path).FromString,
            )
            try:
                call(request, metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                return reason_of(error)
        return ""


def reason_of(error: grpc.RpcError) -> str:
    """The reason inside the status details of a refusal; the code's name when there are none."""
    trailers: Iterable[tuple[str, bytes]] = cast(Any, error).trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return str(error.code().name)


def install() -> None:
    """Install the checkout into its environments, as `make setup` does; quick when nothing changed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "deploy.stack.install"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


MakeStack = Callable[..., Stack]


@pytest.fixture(scope="session")
def make_stack() -> Iterator[MakeStack]:
    """`make_stack(**settings)`: a stack that is not up yet; destroyed at the end of the session."""
    install()
    made: list[Stack] = []

    def make(**settings: Any) -> Stack:
        home = Path(tempfile.mkdtemp(prefix="hf-"))
        home.chmod(0o755)
        made.append(Stack(home, **settings))
        return made[-1]

    yield make
    for stack in made:
        stack.clean()
        for left in stack.layout.home.iterdir():
            left.unlink()
        stack.layout.home.rmdir()


@pytest.fixture(scope="session")
def stack(make_stack: MakeStack) -> Stack:
    """One stack for the whole session, up."""
    made = make_stack()
    made.up()
    return made
