"""The parts of the stack: what each one is started with, and how it is seen to be well."""

import dataclasses
import hashlib
import importlib
import importlib.util
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.envoy.config import Edge
from deploy.pgbackrest import conf as pgbackrest
from deploy.stack import backup_store, seaweed
from deploy.stack.backup_store import BackupStore
from deploy.stack.credentials import STACK, Vault
from deploy.stack.layout import SERVICES, Layout, Settings
from deploy.stack.postgres import Cluster, binaries
from deploy.stack.supervise import Program, drop_prefix
from holdfast.cli.escrow_files import DROP_IN
from holdfast.escrow import Installation
from libs.rpc.validate import IMAGE

STORE_PORTS = {
    "s3": "s3",
    "s3_grpc": "s3_grpc",
    "master": "s3_master",
    "master_grpc": "s3_master_grpc",
    "volume": "s3_volume",
    "volume_grpc": "s3_volume_grpc",
    "filer": "s3_filer",
    "filer_grpc": "s3_filer_grpc",
}
"""Which remembered port is which of the object store's."""
STANZA = "holdfast"
LEAN = {"GOGC": "50", "GOMEMLIMIT": "256MiB"}  # Go gives memory back late: half a gigabyte after a 40 MB upload (tried)
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part. fault: "" when it is well, else what is wrong in one line. ports: names of the TCP ports it binds."""

    program: Program
    fault: Callable[[], str]
    ports: tuple[str, ...] = ()
    own_code: bool = False

    @property
    def name(self) -> str:
        """The part's name for a person, `make logs` and the supervisor."""
        return self.program.name


class Parts:
    """Every part of one stack, built from its layout, ports, settings and secrets; nothing is started or written
    here.
    """

    def __init__(self, where: Layout, ports: Mapping[str, int], settings: Settings) -> None:
        self.where, self.ports, self.settings = where, ports, settings
        self.vault = Vault(where.secrets)

    @cached_property
    def cluster(self) -> Cluster:
        """The database server."""
        return Cluster(
            data_dir=self.where.state / "postgres",
            socket_dir=self.where.run / "pg",
            archive_command=pgbackrest.archive_command(self.pgbackrest_file, STANZA),
        )

    @property
    def pgbackrest_file(self) -> Path:
        """pgBackRest's configuration with the identity that may add to the repository, and not take from it."""
        return self.where.conf / "pgbackrest.conf"

    @property
    def keeper_file(self) -> Path:
        """The same with the identity that may also delete: for expiry."""
        return self.where.conf / "pgbackrest-keeper.conf"

    @property
    def drill_file(self) -> Path:
        """The same with an identity that may only read: for restores."""
        return self.where.conf / "pgbackrest-read.conf"

    def pgbackrest_settings(self, identity: str) -> pgbackrest.Settings:
        """How pgBackRest reaches the server and the repository as *identity*."""
        place = self.backup_store
        pair = place.identities[identity]
        repository = pgbackrest.S3(
            bucket=place.backups,
            endpoint=place.host,
            port=place.port,
            region=place.region,
            access_key=pair.access_key,
            secret_key=pair.secret_key,
            ca_file=place.ca_file,
        )
        return pgbackrest.Settings(
            stanza=STANZA,
            repository=repository,
            server=pgbackrest.Server(
                data_dir=self.cluster.data_dir,
                socket_dir=self.cluster.socket_dir,
                port=self.cluster.port,
                user="holdfast_pgbackrest",
                database=self.cluster.database,
            ),
            work_dir=self.where.state / "pgbackrest",
            cipher_pass=self.vault.text(f"{STACK}/repository_cipher"),
        )

    @cached_property
    def store(self) -> seaweed.Seaweed:
        """The object store."""
        return seaweed.Seaweed(
            weed=str(self.where.tool("weed")),
            data_dir=self.where.state / "store",
            run_dir=self.where.run / "store",
            ports=seaweed.Ports(**{name: self.ports[port] for name, port in STORE_PORTS.items()}),
            cert_file=self.where.pki / "store" / "cert.pem",
            key_file=self.where.pki / "store" / "key.pem",
            ca_file=self.where.ca_file,
            identities=self.vault.identities(),
            inner_key=self.vault.text(f"{STACK}/store_inner_key"),
        )

    @cached_property
    def backup_store(self) -> BackupStore:
        """Where backups and evidence lie. Raises BadSettings."""
        if self.settings.offsite_endpoint:
            return backup_store.offsite(self.where, self.settings)
        return backup_store.own(self.store, self.where.ca_file)

    def target(self, service: str, kind: str) -> str:
        """Where a service serves gRPC or HTTP; "" for backup's HTTP, which it has not."""
        return "" if (service, kind) == ("backup", "http") else f"unix:{self.where.run / service}.{kind}.sock"

    @cached_property
    def edge(self) -> Edge:
        """What fills Envoy's configuration."""
        upstreams = {f"{service}_grpc": self.target(service, "grpc") for service in SERVICES}
        upstreams |= {f"{service}_http": self.target(service, "http") for service in ("files", "events")}
        return Edge(
            host=self.settings.edge_host,
            edge_port=self.ports["edge"],
            redirect_port=self.ports["redirect"],
            metrics_host="127.0.0.1",
            metrics_port=self.ports["edge_metrics"],
            admin_socket=str(self.where.run / "edge.admin.sock"),
            certificate_file=self.where.pki / "edge" / "sds.json",
            contract_image=self.contract_image,
            upstreams={**upstreams, "auth_check": self.target("auth", "http")},
            allowed_origins=(self.edge_url, *self.settings.allowed_origins),
            anonymous_per_minute=self.settings.anonymous_per_minute,
            address_per_minute=self.settings.address_per_minute,
            max_upload_bytes=self.settings.max_upload_bytes,
        )

    @property
    def contract_image(self) -> Path:
        """The edge's own copy of the contract's image: its user cannot enter a checkout below /root. Named by content,
        so that a changed contract changes the edge's configuration.
        """
        return self.where.conf / f"contract-{hashlib.sha256(IMAGE.read_bytes()).hexdigest()[:16]}.binpb"

    @property
    def edge_url(self) -> str:
        """How the edge is advertised: by number, for HSTS would otherwise pin localhost."""
        return f"https://127.0.0.1:{self.ports['edge']}"

    def foundations(self) -> list[Part]:
        """What has to be well before the services' data can be laid out.

        The store comes first and so is stopped last: Postgres ends only when its last WAL is archived there (tried).
        """
        return [self.object_store(), self.postgres()]

    def all(self) -> list[Part]:
        """Every part, in the order they are started; they are stopped in the reverse one."""
        parts = [
            *self.foundations(),
            self.mail(),
            *(self.service(name) for name in SERVICES if exists(name)),
            self.envoy(),
        ]
        if self.settings.prometheus and shutil.which("prometheus"):
            parts.append(self.prometheus())
        return parts

    def postgres(self) -> Part:
        """Postgres; its command already carries the privilege prefix."""
        cluster = self.cluster
        program = Program(
            name="postgres",
            argv=cluster.command(),
            environment={**PLAIN, **cluster.environment()},
            directory=self.where.state,
            stop_signal="INT",
            stop_seconds=60,
            whole_group=False,
        )
        return Part(program=program, fault=lambda: "" if cluster.ready() else "does not accept connections")

    def object_store(self) -> Part:
        """SeaweedFS."""
        store = self.store
        program = self._program("store", store.argv(), {**store.env(), **LEAN}, self.where.state / "store")
        # It waits 15 s for streams to itself (tried). All it was asked to keep is in the kernel's hands by then.
        program = dataclasses.replace(program, stop_seconds=2)
        return Part(program=program, fault=store.healthy, ports=tuple(STORE_PORTS.values()))

    def mail(self) -> Part:
        """The mail catcher, a script of the tools environment."""
        script = Path(catcher_file(self.where))
        argv = [str(self.where.tool("python")), str(script), str(self.where.mail), str(self.ports["smtp"])]
        return Part(
            program=self._program("mail", argv, {}, self.where.state),
            fault=lambda: greeted(self.ports["smtp"]),
            ports=("smtp",),
        )

    def envoy(self) -> Part:
        """The edge."""
        base = int.from_bytes(self.where.home.name.encode()[-4:], "big") % 2_000_000
        argv = [
            str(self.where.tool("envoy")),
            "--config-path",
            str(self.where.conf / "envoy.yaml"),
            "--service-node",
            "edge",
        ]
        argv += ["--service-cluster", "holdfast", "--disable-hot-restart", "--base-id", str(base), "--concurrency", "1"]
        argv += ["--log-level", "warning", "--drain-time-s", "2"]
        url = f"http://127.0.0.1:{self.ports['edge_metrics']}/ready"
        return Part(
            program=self._program("edge", argv, {}, self.where.state),
            fault=lambda: answered(url),
            ports=("edge", "redirect", "edge_metrics"),
        )

    def prometheus(self) -> Part:
        """Prometheus, when the machine has it."""
        argv = [str(shutil.which("prometheus")), f"--config.file={self.where.conf / 'prometheus.yml'}"]
        argv += [f"--storage.tsdb.path={self.where.state / 'prometheus'}", "--storage.tsdb.retention.time=7d"]
        argv += [f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}", "--log.level=warn"]
        url = f"http://127.0.0.1:{self.ports['prometheus']}/-/ready"
        return Part(
            program=self._program("prometheus", argv, {}, self.where.state),
            fault=lambda: answered(url),
            ports=("prometheus",),
        )

    def service(self, name: str) -> Part:
        """One of our four: server and worker in one process, run from what is installed."""
        argv = [str(self.where.python), "-m", f"services.{name}", "serve"]
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **self.service_environment(name)}
        return Part(
            program=self._program(name, argv, environment, self.where.state),
            fault=lambda: serving(self.target(name, "grpc")),
            ports=(f"{name}_metrics",),
            own_code=True,
        )

    def service_environment(self, name: str) -> dict[str, str]:
        """The settings of a service: of everything this stack could tell, what its configuration has a field for."""
        kind = importlib.import_module(f"services.{name}.config").Config
        known = {field.name for field in dataclasses.fields(kind)}
        return {
            f"HOLDFAST_{key.upper()}": value
            for key, value in self._told(name).items()
            if key in known and key != "service"
        }

    def _told(self, name: str) -> dict[str, str]:
        return {
            "environment": "production",
            "run_dir": str(self.where.run),
            "grpc_address": self.target(name, "grpc"),
            "http_address": self.target(name, "http"),
            "metrics_address": f"127.0.0.1:{self.ports[f'{name}_metrics']}",
            "database_host": str(self.cluster.socket_dir),
            "database_port": str(self.cluster.port),
            "database_name": self.cluster.database,
            "database_user": f"holdfast_{name}",
            "database_tls": "off",
            "secrets_dir": str(self.where.secrets / name),
            "edge_notice_seconds": "0.2",
            "drain_seconds": "10",
            **self._told_alone(name),
        }

    def _told_alone(self, name: str) -> dict[str, str]:
        """What only one service is told."""
        if name == "auth":
            origins = ",".join(self.edge.allowed_origins)
            smtp = {"smtp_host": "127.0.0.1", "smtp_port": str(self.ports["smtp"]), "smtp_tls": "off"}
            return {"allowed_origins": origins, **smtp}
        if name == "files":
            return {
                "s3_endpoint": self.store.endpoint,
                "s3_region": seaweed.REGION,
                "s3_ca_file": str(self.where.ca_file),
            }
        if name == "events":
            return {"auth_address": self.target("auth", "grpc")}
        hidden = (self.where.state, self.where.run)  # what a copy needs of them is kept in its sight
        return {
            "operator_socket": str(self.where.operator_socket),
            "state_dir": str(self.where.state / "backup"),
            "escrow_records": str(Installation(self.where.state).records),
            "escrow_opened": str(self.where.run / DROP_IN),
            "pgbackrest_program": str(shutil.which("pgbackrest")),
            "pgbackrest_config": str(self.pgbackrest_file),
            "pgbackrest_expire_config": str(self.keeper_file),
            "pgbackrest_drill_config": str(self.drill_file),
            "stanza": STANZA,
            "postgres_binaries": str(binaries()),
            "hidden_paths": ",".join(map(str, hidden)),
            "files_endpoint": self.store.endpoint,
            "files_region": seaweed.REGION,
            "files_ca_file": str(self.where.ca_file),
            "evidence_endpoint": self.backup_store.endpoint,
            "evidence_region": self.backup_store.region,
            "evidence_bucket": self.backup_store.evidence,
            "evidence_ca_file": str(self.backup_store.ca_file or ""),
            "smoke_secrets": str(self.where.secrets),
            "smoke_canary": str(self.where.canary_file),
            "drill_probes": f"tcp:127.0.0.1:{self.ports['s3']},unix:{self.where.run / 'auth.grpc.sock'}",
        }

    def _program(self, name: str, argv: list[str], environment: Mapping[str, str], directory: Path) -> Program:
        command = [*drop_prefix(death_signal="TERM"), *argv]
        home = {"HOME": str(self.where.state)}
        return Program(name=name, argv=command, environment={**PLAIN, **home, **environment}, directory=directory)


def exists(service: str) -> bool:
    """Whether the service's program is installed."""
    return importlib.util.find_spec(f"services.{service}") is not None and (
        importlib.util.find_spec(f"services.{service}.__main__") is not None
    )


def catcher_file(where: Layout) -> Path:
    """The catcher as installed in the services' environment, where the service user may read it."""
    version = f"python{'.'.join(map(str, sys.version_info[:2]))}"
    return where.programs / "venv" / "lib" / version / "site-packages" / "deploy" / "stack" / "catcher.py"


def serving(target: str) -> str:
    """Whether a gRPC server says SERVING; "" when it does."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError as error:
            return "does not answer" if error.code() is grpc.StatusCode.UNAVAILABLE else str(error.code().name)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def answered(url: str) -> str:
    """Whether a GET is answered with 200; "" when it is."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return "" if reply.status == 200 else f"HTTP {reply.status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except OSError:
        return "does not answer"


def greeted(port: int) -> str:
    """Whether an SMTP server greets; "" when it does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return "" if connection.recv(64).startswith(b"220") else "no SMTP greeting"
    except OSError:
        return "does not answer"
