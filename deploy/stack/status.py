"""What `make status` shows: every part with its address and health, and what could be restored now."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import grpc

from deploy.stack import inventory
from deploy.stack.layout import Layout
from deploy.stack.parts import Part, Parts
from deploy.stack.report import Report
from deploy.stack.supervise import Supervisor
from deploy.stack.up import standing
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub
from holdfast.cli.escrow_files import document, words
from holdfast.cli.show import NOT_ASKED, lost
from holdfast.escrow import Installation, record


@dataclass(frozen=True, slots=True)
class State:
    """One part as it is now. state: the supervisor's word; fault: "" when it is well."""

    name: str
    state: str
    fault: str
    address: str
    pid: int
    up_seconds: int
    memory_bytes: int


def states(parts: Parts) -> list[State]:
    """Every part as it is now, asked at once."""
    every = parts.all()
    told = Supervisor(parts.where).states()
    with ThreadPoolExecutor(max_workers=len(every)) as pool:
        faults = list(pool.map(lambda part: part.fault(), every)) if told else ["down"] * len(every)
    return [state(parts, part, told.get(part.name, {}), fault) for part, fault in zip(every, faults, strict=True)]


def state(parts: Parts, part: Part, told: dict[str, Any], fault: str) -> State:
    """One part's line."""
    pid = int(told.get("pid", 0))
    running = told.get("statename") == "RUNNING"
    return State(
        name=part.name,
        state=told.get("statename", "DOWN"),
        fault=fault,
        address=address(parts, part.name),
        pid=pid,
        up_seconds=round(time.time() - told["start"]) if running else 0,
        memory_bytes=inventory.resident_bytes(inventory.family([pid])) if pid else 0,
    )


def address(parts: Parts, name: str) -> str:
    """Where a part is reached, for a person."""
    fixed = {
        "edge": f"{parts.edge_url}  (http: {parts.ports['redirect']})",
        "store": parts.store.endpoint,
        "postgres": f"{parts.cluster.socket_dir} port {parts.cluster.port}",
        "mail": f"smtp 127.0.0.1:{parts.ports['smtp']}, mails in {parts.where.mail}",
        "prometheus": f"http://127.0.0.1:{parts.ports['prometheus']}",
    }
    return fixed.get(name) or f"{parts.target(name, 'grpc')}  metrics 127.0.0.1:{parts.ports[f'{name}_metrics']}"


def recovery(where: Layout) -> pb.GetRecoveryStatusResponse | str:
    """What the backup service says on the operator socket, or why it says nothing."""
    if not where.operator_socket.exists():
        return "the operator socket is not there"
    with grpc.insecure_channel(f"unix:{where.operator_socket}") as channel:
        try:
            return BackupServiceStub(channel).GetRecoveryStatus(pb.GetRecoveryStatusRequest(), timeout=20)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


def recovery_lines(found: pb.GetRecoveryStatusResponse | str) -> list[str]:
    """The last lines of the status."""
    if isinstance(found, str):
        return [f"last drill: unknown ({found})", "live RPO: unknown, of objects unknown", "restorable: unknown"]
    exposure, window = "no backup yet", "not restorable: no backup yet"
    if found.repository_unreadable:
        exposure, window = "unknown", f"restorable: unknown, {NOT_ASKED}"
    if found.HasField("rpo_exposure_seconds"):
        exposure = f"{found.rpo_exposure_seconds:.0f} s"
    known = found.HasField("predicted_rto_seconds")
    objects = f"{found.object_rpo.seconds:.0f} s" if found.object_rpo.HasField("seconds") else "unknown"
    if found.HasField("earliest_time") and found.HasField("latest_time"):
        window = (
            f"restorable from {moment(found.earliest_time.ToDatetime())} to {moment(found.latest_time.ToDatetime())}"
        )
    return [
        *(f"warning: {one}" for one in found.warnings),
        f"last drill: {drill(found)}",
        f"live RPO: {exposure}, of objects {objects}",
        f"RTO now: {f'{found.predicted_rto_seconds:.0f} s by past drills' if known else 'no good drill yet'}",
        window,
        *(lost(one, lambda time: moment(time.ToDatetime())) for one in found.lost_intervals),
    ]


def drill(found: pb.GetRecoveryStatusResponse) -> str:
    """The newest drill in a few words."""
    if not found.HasField("last_drill"):
        return "none yet"
    last = found.last_drill
    words = [pb.State.Name(last.state).removeprefix("STATE_").lower(), moment(last.create_time.ToDatetime())]
    if last.HasField("rto_seconds"):
        words.append(f"RTO {last.rto_seconds:.1f} s")
    if last.HasField("rpo_seconds"):
        words.append(f"RPO {last.rpo_seconds:.1f} s")
    return ", ".join(words)


def moment(utc: datetime) -> str:
    """A UTC time for a person and for `--to`."""
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def show(where: Layout, report: Report) -> bool:
    """Print the status; whether every part is well."""
    parts = standing(where)
    found = states(parts)
    rows = [
        (one.name, one.state.lower(), one.fault or "well", one.address, f"{one.memory_bytes / 2**20:.0f} MiB")
        for one in found
    ]
    report.table(f"stack {where.run.name}", ("part", "state", "health", "address", "memory"), rows)
    if all(one.state == "DOWN" for one in found):
        report.say("The stack is down: make up")
    restorable = recovery(where)
    lines = recovery_lines(restorable)
    revision = (
        json.loads(where.stack_json.read_text(encoding="utf-8")).get("revision", "")
        if where.stack_json.exists()
        else ""
    )
    report.facts |= {
        "name": where.run.name,
        "revision": revision,
        "edge_url": parts.edge_url,
        "parts": [asdict(one) for one in found],
    }
    report.facts |= {"memory_bytes": sum(one.memory_bytes for one in found), "recovery": lines}
    escrow = record.standing(Installation(where.state).records)
    report.facts["escrow"] = document(escrow)
    for line in (*lines, f"escrow: {words(escrow)}".replace("\n", "; ")):
        report.say(line)
    return all(one.fault == "" for one in found)
