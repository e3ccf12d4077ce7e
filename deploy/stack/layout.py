"""Where everything of one stack lies, and what may be set for it.

A *home* holds one stack. The checkout's own home also holds the environments that every stack of that checkout uses.
As root it is under /var/lib/holdfast, for the services run as another user and that user cannot enter /root.
Only the standard library is used here: `make setup` runs this before anything is installed.
"""

import hashlib
import json
import os
import pwd
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

CHECKOUT = Path(os.environ.get("HOLDFAST_CHECKOUT", Path.cwd())).resolve()
SERVICE_USER = "holdfast"
SERVICES = ("auth", "files", "events", "backup")


def short_hash(path: Path) -> str:
    """Eight hex digits that stand for *path*."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def as_root() -> bool:
    """Whether this process is root, so that parts have to be run as another user."""
    return os.geteuid() == 0


def checkout_home() -> Path:
    """The home that belongs to the checkout: /var/lib/holdfast/<hash> for root, else `.holdfast` in the checkout."""
    if as_root():
        return Path("/var/lib/holdfast") / short_hash(CHECKOUT)
    return CHECKOUT / ".holdfast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a stack may be told; kept in `settings.json` of its home, a missing key has its default.

    anonymous_per_minute: requests without a credential that one address may make at the edge in a minute (R1).
    address_per_minute: the same for all requests of one address, against floods.
    allowed_origins: origins of browsers beside the edge's own, exact, with credentials; a wildcard is refused (S7).
    max_upload_bytes: ceiling of a request with a body at the edge; the files service has its own, lower one.
    edge_host: address the edge listens on.
    prometheus: whether Prometheus is run when it is installed.
    alertmanagers: host:port of each Alertmanager that gets the alerts; without one they are shown and sent nowhere.
    offsite_*: the S3 store at another site that takes backups and evidence (deploy.stack.backup_store); endpoint:
    https://NAME[:PORT], "" for the stack's own store; ca_file: who vouches for it, "" for whom the system trusts.
    """

    anonymous_per_minute: int = 100
    address_per_minute: int = 60_000
    allowed_origins: tuple[str, ...] = ()
    max_upload_bytes: int = 1 << 30
    edge_host: str = "127.0.0.1"
    prometheus: bool = True
    alertmanagers: tuple[str, ...] = ()
    offsite_endpoint: str = ""
    offsite_region: str = "us-east-1"
    offsite_backups_bucket: str = "backups"
    offsite_evidence_bucket: str = "evidence"
    offsite_ca_file: str = ""


_OFFSITE = re.compile(r"https://(?=[^:]*[A-Za-z])[A-Za-z0-9.-]+(:[0-9]{1,5})?")
"""A host name, which an address of digits alone is not."""


class BadSettings(Exception):
    """settings.json holds a key or a value that is not allowed; the message lists every fault."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one stack. home: its own directory; programs: the home that holds the environments; run: its
    sockets.
    """

    home: Path
    programs: Path
    run: Path

    @property
    def state(self) -> Path:
        """All data, 0700, owned by the user the parts run as."""
        return self.home / "state"

    @property
    def secrets(self) -> Path:
        """One directory of secret files per service, and those of the stack itself."""
        return self.state / "secrets"

    @property
    def pki(self) -> Path:
        """The certificate authority and the certificates it signed."""
        return self.state / "pki"

    @property
    def conf(self) -> Path:
        """Generated configuration files."""
        return self.state / "conf"

    @property
    def logs(self) -> Path:
        """One log file per part, written by the supervisor."""
        return self.home / "logs"

    @property
    def mail(self) -> Path:
        """What the catcher caught."""
        return self.state / "mail"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate where anyone may read it."""
        return self.home / "ca.pem"

    @property
    def offsite_ca_file(self) -> Path:
        """Who vouches for the store at another site, where anyone may read it."""
        return self.home / "offsite-ca.pem"

    @property
    def evidence_key_file(self) -> Path:
        """The public keys of evidence, where anyone may read them."""
        return self.home / "evidence.pem"

    @property
    def canary_file(self) -> Path:
        """Who the canary is, and what to expect of it; a secret of backup, which signs in as it on copies."""
        return self.secrets / "backup" / "canary"

    @property
    def stack_json(self) -> Path:
        """Where the running stack is described; see the package's own page."""
        return self.home / "stack.json"

    @property
    def python(self) -> Path:
        """The interpreter with the services installed."""
        return self.programs / "venv" / "bin" / "python"

    def tool(self, name: str) -> Path:
        """A program of the tools environment."""
        return self.programs / "tools" / "bin" / name

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor listens."""
        return self.run / "supervisor.sock"

    @property
    def operator_socket(self) -> Path:
        """Where operators reach the backup service; its directory is 0700."""
        return self.run / "operator" / "operator.sock"


def run_directory(home: Path) -> Path:
    """A short directory for the sockets of *home*: a socket's path has 107 bytes at most."""
    if as_root():
        return Path("/run") / f"holdfast-{short_hash(home)}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and len(runtime) < 60 and os.access(runtime, os.W_OK):
        return Path(runtime) / f"holdfast-{short_hash(home)}"
    return Path("/tmp") / f"holdfast-{os.getuid()}-{short_hash(home)}"


def layout() -> Layout:
    """The stack this process is about: HOLDFAST_HOME when set (tests), else the checkout's own."""
    programs = Path(os.environ.get("HOLDFAST_PROGRAMS", checkout_home()))
    home = Path(os.environ.get("HOLDFAST_HOME", programs))
    return Layout(home, programs, run_directory(home))


def settings(where: Layout) -> Settings:
    """The stack's settings. Raises BadSettings with every fault at once."""
    path = where.home / "settings.json"
    if not path.exists():
        return Settings()
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise BadSettings(f"{path} is no JSON: {fault}") from None
    if not isinstance(given, dict):
        raise BadSettings(f"{path} has to hold one JSON object")
    known = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}
    faults = [f"{key}: no such setting" for key in given if key not in known]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    for key, value in given.items():
        if key in known and type(value) is not known[key]:
            faults.append(f"{key}: has to be of type {known[key].__name__}")
    faults += [
        f"allowed_origins: {origin} is no exact origin"
        for origin in given.get("allowed_origins", ())
        if not _exact(origin)
    ]
    if given.get("offsite_endpoint") and not _elsewhere(str(given["offsite_endpoint"])):
        faults.append("offsite_endpoint: has to be https://NAME or https://NAME:PORT; certificates carry names")
    if faults:
        raise BadSettings(f"{path}: " + "; ".join(faults))
    return replace(Settings(), **given)


def _exact(origin: object) -> bool:
    """Whether *origin* is scheme, host and port alone, with no wildcard."""
    text = str(origin)
    return (
        text.startswith(("https://", "http://127.0.0.1", "http://localhost"))
        and "*" not in text
        and text.count("/") == 2
    )


def _elsewhere(endpoint: str) -> bool:
    """Whether *endpoint* is https, a host name and perhaps a port, and nothing else."""
    found = _OFFSITE.fullmatch(endpoint)
    return found is not None and 0 < int((found[1] or ":443")[1:]) < 65536


def save_settings(where: Layout, wanted: Settings) -> None:
    """Keep *wanted* for every later `up` of this home."""
    where.home.mkdir(parents=True, exist_ok=True)
    (where.home / "settings.json").write_text(json.dumps(asdict(wanted), indent=1) + "\n", encoding="utf-8")


def service_ids() -> tuple[int, int]:
    """User and group the parts run as: `holdfast` when root, else the caller's own. Raises KeyError when there is no
    such user.
    """
    if not as_root():
        return os.getuid(), os.getgid()
    entry = pwd.getpwnam(SERVICE_USER)
    return entry.pw_uid, entry.pw_gid
