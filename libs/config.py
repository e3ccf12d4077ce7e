"""Configuration: a frozen dataclass per service, read once, refused as a whole with every fault listed.

A setting comes from the variable `HOLDFAST_<FIELD>`, a secret from the file `<HOLDFAST_SECRETS_DIR>/<field>`.
Faults found together: missing, unparsable, out of range, unknown HOLDFAST_ names, addresses that are none; secrets that
are missing, short, published examples, equal to one another, readable by others, or given as environment values in
production. No message quotes a value: it might be a secret pasted in the wrong place.

Exit codes of every Holdfast program (libs.process): 0 done · 1 a fault while running, or `check` found something ·
64 wrong command line · 70 internal error before serving · 78 configuration refused · 128 + signal at a second signal.
"""

import dataclasses
import difflib
import ipaddress
import math
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from libs import secret as secrets_
from libs.secret import Secret, SecretFault

PREFIX = "HOLDFAST_"
EXIT_OK, EXIT_FAULT, EXIT_USAGE, EXIT_INTERNAL, EXIT_CONFIG = 0, 1, 64, 70, 78
UNIX_PATH_BYTES = 107
"""The longest path of a Unix socket: sun_path holds 108 bytes with its end mark."""

_META = "holdfast"


class ConfigError(Exception):
    """The configuration is refused. faults: every one found, each a sentence that begins with the variable or file."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True, slots=True)
class _Meta:
    doc: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    min_bytes: int = 0
    secret: bool = False
    optional: bool = False


def setting(
    doc: str, *, default: Any = MISSING, unit: str = "", least: float | None = None, most: float | None = None
) -> Any:
    """A field read from `HOLDFAST_<FIELD>`: str, int, float, bool, Literal[…] or tuple[str, ...] (comma-separated).

    unit: of a number, e.g. "seconds". least, most: inclusive bounds of a number.
    """
    return dataclasses.field(default=default, metadata={_META: _Meta(doc, unit, least, most)})


def secret(doc: str, *, min_bytes: int = 32, optional: bool = False) -> Any:
    """A field of type libs.secret.Secret read from `<secrets_dir>/<field>`; when optional and absent, an empty Secret.

    In development the environment may give the value; in production that is a fault.
    """
    meta = _Meta(doc, min_bytes=min_bytes, secret=True, optional=optional)
    return dataclasses.field(default=Secret(b"") if optional else MISSING, metadata={_META: meta}, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What every service needs; each subclass sets `service` as a plain default and adds its own fields.

    A subclass may define `faults(self) -> list[str]` for what one field alone cannot show; each class's is asked.
    Fields named `*_address` are `unix:/path` or `host:port`, "" where that is the default.
    """

    service: str = ""
    environment: Literal["production", "development"] = setting(
        "production, or development: relaxed, and only on loopback and Unix sockets.", default="production"
    )
    run_dir: str = setting("Directory of this installation's sockets.", default="/run/holdfast")
    grpc_address: str = setting("Where gRPC is served.")
    http_address: str = setting("Where HTTP/1.1 is served; empty for nowhere.", default="")
    metrics_address: str = setting("Private listener of GET /metrics; empty for none.", default="")
    database_host: str = setting("Directory of PostgreSQL's socket, or its host.")
    database_port: int = setting("PostgreSQL's port.", default=5432, least=1, most=65535)
    database_name: str = setting("Database.", default="holdfast")
    database_user: str = setting("The runtime role of this service, e.g. holdfast_files.")
    database_password: Secret = secret("Password of database_user.")
    database_tls: Literal["verify-full", "off"] = setting(
        "TLS to PostgreSQL; off only through a socket or on loopback.", default="verify-full"
    )
    database_ca_file: str = setting(
        "PEM file of the CAs that vouch for PostgreSQL; empty for the system's.", default=""
    )
    secrets_dir: str = setting("Directory of this service's secret files.", default="/run/secrets")
    log_format: Literal["json", "console"] = setting("Shape of log lines on stderr.", default="json")
    log_level: Literal["debug", "info", "warning", "error"] = setting("The least level printed.", default="info")
    otlp_endpoint: str = setting("Base URL of an OTLP/HTTP collector; empty for no traces.", default="")
    trace_ratio: float = setting("Share of new traces that are kept.", default=0.1, least=0, most=1)
    edge_notice_seconds: float = setting(
        "How long to go on serving after reporting NOT_SERVING.", default=5.0, unit="seconds", least=0, most=300
    )
    drain_seconds: float = setting(
        "How long running calls, streams and jobs get to end.", default=20.0, unit="seconds", least=0, most=3600
    )

    @property
    def production(self) -> bool:
        """Whether nothing is relaxed."""
        return self.environment == "production"

    def secret_path(self, name: str) -> str:
        """The path of the secret file of field *name*, for a libs.secret.Watched."""
        return os.path.join(self.secrets_dir, name)

    def faults(self) -> list[str]:
        """What is wrong between fields that are each right."""
        found: list[str] = []
        if not self.service:
            found.append(f"{type(self).__name__} does not name its service")
        if self.environment == "development":
            found.extend(_exposed(self))
        if self.database_tls == "off" and not local_host(self.database_host):
            found.append(f"{PREFIX}DATABASE_TLS can be off only through a socket or on loopback")
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            found.append(f"{PREFIX}OTLP_ENDPOINT has to be an http:// or https:// URL")
        return found


ConfigT = TypeVar("ConfigT", bound=ServiceConfig)


def load(config_type: type[ConfigT], environ: Mapping[str, str]) -> ConfigT:
    """The configuration in *environ* and the secret files it points to. Raises ConfigError with every fault."""
    reader = _Reader(config_type, environ)
    values = reader.values()
    if reader.faults:
        raise ConfigError(reader.faults)
    built = config_type(**values)
    faults: list[str] = []
    for owner in reversed(config_type.__mro__):
        own = owner.__dict__.get("faults")
        if own is not None:
            faults.extend(own(built))
    if faults:
        raise ConfigError(faults)
    return built


def address(value: str) -> tuple[str, int] | str:
    """*value* as the path of a Unix socket or as (host, port). Raises ValueError with the end of a sentence."""
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError("has to name an absolute path after unix:")
        if len(path.encode()) > UNIX_PATH_BYTES:
            raise ValueError(f"names a socket path longer than {UNIX_PATH_BYTES} bytes")
        return path
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("has to be unix:/path or host:port")
    return host.strip("[]"), int(port)


def local_host(host: str) -> bool:
    """Whether *host* is a socket's directory or loopback."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def local_address(value: str) -> bool:
    """Whether *value* (`unix:/path` or `host:port`) can be reached from this machine only."""
    where = address(value)
    return isinstance(where, str) or local_host(where[0])


def describe(config_type: type[ServiceConfig]) -> str:
    """The table of settings: variable or secret file, type and unit, default, meaning; for `--help` and the docs."""
    rows = [("name", "type", "default", "meaning")]
    for field, meta, kind in _fields(config_type):
        if meta.secret:
            shown = "none needed" if meta.optional else "required"
            rows.append((f"secret file {field.name}", f"at least {meta.min_bytes} bytes", shown, meta.doc))
            continue
        default = "required" if field.default is MISSING else _shown(field.default)
        unit = f", {meta.unit}" if meta.unit else ""
        rows.append((PREFIX + field.name.upper(), _kind(kind) + unit, default, meta.doc))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    )


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        default = ",".join(default)
    return "(empty)" if default == "" else str(default).lower() if isinstance(default, bool) else str(default)


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "list"
    return {str: "text", int: "whole number", float: "number", bool: "true|false"}[kind]


def _fields(config_type: type[ServiceConfig]) -> Iterator[tuple["dataclasses.Field[Any]", _Meta, Any]]:
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        meta = field.metadata.get(_META)
        if isinstance(meta, _Meta):
            yield field, meta, hints[field.name]


def _exposed(config: ServiceConfig) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("_address") and value and not local_address(value):
            yield f"{PREFIX}{field.name.upper()} has to be loopback or a Unix socket in development"
    if not local_host(config.database_host):
        yield f"{PREFIX}DATABASE_HOST has to be loopback or a socket directory in development"


class _Reader:
    """One pass over the fields that collects values and faults."""

    def __init__(self, config_type: type[ServiceConfig], environ: Mapping[str, str]) -> None:
        self._fields = list(_fields(config_type))
        self._environ = environ
        self._private = environ.get(PREFIX + "ENVIRONMENT", "production") != "development"
        self.faults: list[str] = []

    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field, meta, kind in self._fields:
            read = self._secret if meta.secret else self._setting
            value = read(field, meta, kind)
            if value is not MISSING:
                values[field.name] = value
        self._unknown()
        secrets = [(name, value) for name, value in values.items() if isinstance(value, Secret)]
        for one, other in secrets_.equal(secrets):
            self.faults.append(f"secret {other} is equal to secret {one}")
        return values

    def _setting(self, field: "dataclasses.Field[Any]", meta: _Meta, kind: Any) -> Any:
        name = PREFIX + field.name.upper()
        text = self._environ.get(name)
        if text is None:
            if field.default is MISSING:
                self.faults.append(f"{name} is missing: {meta.doc}")
            return MISSING
        try:
            value = _parse(text, kind, meta)
            if value == "" and field.default is MISSING:
                raise ValueError("is empty")
            if value and field.name.endswith("_address"):
                address(value)
        except ValueError as fault:
            self.faults.append(f"{name} {fault}")
            return MISSING
        return value

    def _secret(self, field: "dataclasses.Field[Any]", meta: _Meta, _: Any) -> Any:
        name = PREFIX + field.name.upper()
        given = self._environ.get(name)
        if given is not None and self._private:
            self.faults.append(f"{name} is a secret: in production it comes from the file {field.name} only")
            return MISSING
        try:
            if given is not None:
                fault = secrets_.weakness(given.encode(), meta.min_bytes)
                if fault:
                    raise SecretFault(fault)
                return Secret(given.encode())
            path = os.path.join(self._environ.get(PREFIX + "SECRETS_DIR", "/run/secrets"), field.name)
            if meta.optional and not os.path.lexists(path):
                return MISSING
            return secrets_.read(path, meta.min_bytes, private=self._private)
        except SecretFault as fault:
            self.faults.append(f"secret {field.name} {fault}")
            return MISSING

    def _unknown(self) -> None:
        known = [PREFIX + field.name.upper() for field, _, _ in self._fields]
        for name in sorted(self._environ):
            if name.startswith(PREFIX) and name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.8)
                self.faults.append(f"{name} is no setting of this service" + (f"; {near[0]} is" if near else ""))


def _parse(text: str, kind: Any, meta: _Meta) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        if text not in get_args(kind):
            raise ValueError("has to be " + " or ".join(map(str, get_args(kind))))
        return text
    if origin is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if origin in (Union, types.UnionType) or kind not in _SCALARS:
        raise ValueError(f"has a type that settings do not have: {kind}")
    value = _SCALARS[kind](text)
    if kind in (int, float):
        _within(value, meta)
    return value


def _within(value: float, meta: _Meta) -> None:
    unit = f" {meta.unit}" if meta.unit else ""
    if meta.least is not None and value < meta.least:
        raise ValueError(f"has to be at least {meta.least:g}{unit}")
    if meta.most is not None and value > meta.most:
        raise ValueError(f"has to be at most {meta.most:g}{unit}")


def _text(text: str) -> str:
    if "\0" in text or "\n" in text:
        raise ValueError("has to be one line")
    return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is not a whole number") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("has to be true or false")
    return text == "true"


_SCALARS: Mapping[Any, Callable[[str], Any]] = {str: _text, int: _whole, float: _number, bool: _truth}
