"""The tour: Holdfast's main job done once by real parts, and each sentence it prints asserted.

Two people in two organizations register, verify, sign in through the edge, store files, see their events, are refused
each other's things; a full backup is taken, and a drill restores it to a moment between two heartbeats and proves it.
What was made is removed.

As JSON it is one object: {ok, steps: [{name, ok, ms, detail}], delivery_ms, rpo_seconds, rto_seconds}; see Report.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.stack.edge import Edge, Follower, Refused
from deploy.stack.visitors import Failed, Native, Person, check, mailed_token
from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.backup.v1 import backup_service_pb2 as backup
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub, DrillServiceStub
from holdfast.errors import from_rpc
from holdfast.events.v1 import event_service_pb2 as events
from holdfast.events.v1.event_service_pb2_grpc import EventServiceStub
from holdfast.files.v1 import file_service_pb2 as files
from holdfast.files.v1.file_service_pb2_grpc import FileServiceStub

AUTH = "/holdfast.auth.v1.AuthService"
FILES = "/holdfast.files.v1.FileService"
EVENTS = "/holdfast.events.v1.EventService"
SIZE = 20 * 1000 * 1000
PIECE = 256 * 1024
KOREAN = "보고서/2026년 11월 결산 보고서.bin"
DELIVERY_SECONDS = 20.0
WORK_SECONDS = 300.0
BUSY_SECONDS, BUSY_PAUSE_SECONDS = 120.0, 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the tour did. ms: how long it took; detail: one sentence of what was seen, or why it failed."""

    name: str
    ok: bool
    ms: float
    detail: str


@dataclass
class Report:
    """What the tour saw. delivery_ms: publish call to event received; rpo_ and rto_seconds: as the drill measured."""

    ok: bool = False
    steps: list[Step] = field(default_factory=list)
    delivery_ms: float | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The report as one JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Where:
    """The addresses of a stack: what the tour needs of stack.json, and how to forget a person made for the tour."""

    edge_url: str
    ca_file: str
    mail_dir: Path
    operator_socket: str
    forget: Callable[[list[str]], None]


class Tour:
    """The steps in order; each returns the sentence it has proved."""

    def __init__(self, where: Where, report: Report) -> None:
        self.where = where
        self.report = report
        mark = os.urandom(5).hex()
        self.mark = mark
        self.one, self.two = (
            Person(f"tour-{who}-{mark}@example.com", os.urandom(12).hex(), Edge(where.edge_url, where.ca_file))
            for who in ("ada", "bo")
        )
        self.content = os.urandom(SIZE)
        self.followers: list[Follower] = []

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name and deed of each step, in order."""
        yield "register two people in two organizations", self.register
        yield "verify both by the mail that came", self.verify
        yield "sign in through the edge", self.sign_in
        yield "store 20 MB with a Korean name by PUT, and again by gRPC", self.store
        yield "read both back, whole and in part", self.read_back
        yield "see the events arrive", self.deliver
        yield "refuse another tenant the file and the stream", self.refuse
        yield "take a full backup", self.back_up
        yield "drill a restore to a chosen moment and prove it", self.drill

    def register(self) -> str:
        """Both persons ask for an account."""
        for person in (self.one, self.two):
            request = auth.RegisterRequest(email=person.email, password=person.password, display_name="Tour")
            person.edge.call(f"{AUTH}/Register", request, auth.RegisterResponse)
        return f"{self.one.email} and {self.two.email}"

    def verify(self) -> str:
        """Each uses the token of the newest mail to them."""
        for person in (self.one, self.two):
            token = mailed_token(self.where.mail_dir, person.email)
            answer = person.edge.call(
                f"{AUTH}/VerifyEmail", auth.VerifyEmailRequest(token=token), auth.VerifyEmailResponse
            )
            check(answer.email == person.email, f"verified {answer.email} instead of {person.email}")
        return "both addresses verified"

    def sign_in(self) -> str:
        """A wrong password is refused, the right one opens a session."""
        for person in (self.one, self.two):
            refused = expect_refusal(partial(self._sign_in, person, "not " + person.password[:8]))
            check(refused.code == grpc.StatusCode.UNAUTHENTICATED.value[0], f"a wrong password gave {refused}")
            answer = self._sign_in(person, person.password)
            person.edge.token, person.user = answer.session.access_token, answer.user.name
            me = person.edge.call(f"{AUTH}/GetMe", auth.GetMeRequest(), auth.GetMeResponse)
            check(me.user.name == person.user and me.user.email == person.email, "GetMe names somebody else")
        check(self.one.user.split("/")[1] != self.two.user.split("/")[1], "both are in one organization")
        return "two sessions; a wrong password was refused"

    def _sign_in(self, person: Person, password: str) -> auth.SignInResponse:
        request = auth.SignInRequest(email=person.email, password=password, delivery=auth.DELIVERY_TOKENS)
        return person.edge.call(f"{AUTH}/SignIn", request, auth.SignInResponse)

    def store(self) -> str:
        """The same bytes once as a browser and once as a service would send them."""
        self.followers = [person.edge.follow() for person in (self.one, self.two)]
        self.one.edge.put(KOREAN, self.content, "application/octet-stream")

        def parts() -> Iterator[files.UploadFileRequest]:
            header = files.UploadHeader(parent=self.one.user, path=KOREAN + ".grpc", size_bytes=SIZE)
            yield files.UploadFileRequest(header=header)
            for at in range(0, SIZE, PIECE):
                yield files.UploadFileRequest(data=self.content[at : at + PIECE])

        with self.native(self.one) as (channel, metadata):
            stored = FileServiceStub(channel).UploadFile(parts(), metadata=metadata, timeout=60).file
        check(stored.sha256 == hashlib.sha256(self.content).digest(), "the stored digest is another one")
        return f"{SIZE / 1e6:.0f} MB twice at {KOREAN}"

    def native(self, person: Person) -> Native:
        """A native gRPC channel to the edge as *person*."""
        return Native(self.where.edge_url, self.where.ca_file, person)

    def read_back(self) -> str:
        """Crosswise: what PUT stored by gRPC, what gRPC stored by GET, and a range."""
        listed = self._files(self.one)
        check(set(listed) == {KOREAN, KOREAN + ".grpc"}, f"the list shows {sorted(listed)}")
        digest = hashlib.sha256()
        with self.native(self.one) as (channel, metadata):
            request = files.DownloadFileRequest(name=listed[KOREAN].name)
            for part in FileServiceStub(channel).DownloadFile(request, metadata=metadata, timeout=60):
                digest.update(part.data)
        wanted = hashlib.sha256(self.content).digest()
        check(digest.digest() == wanted, "what PUT stored came back different by gRPC")
        check(
            hashlib.sha256(self.one.edge.get(KOREAN + ".grpc")).digest() == wanted,
            "what gRPC stored came back different",
        )
        part_of_it = self.one.edge.get(KOREAN, first=1_000_000, last=1_000_999)
        check(part_of_it == self.content[1_000_000:1_001_000], "the range came back different")
        return f"SHA-256 {wanted.hex()[:16]}… on every way"

    def _files(self, person: Person) -> dict[str, files.File]:
        request = files.ListFilesRequest(parent=person.user)
        return {
            file.path: file for file in person.edge.call(f"{FILES}/ListFiles", request, files.ListFilesResponse).files
        }

    def deliver(self) -> str:
        """The two stored files were told, and a published event arrives."""
        mine, theirs = self.followers
        for path in (KOREAN, KOREAN + ".grpc"):
            mine.wait("file.created", files_key(self._files(self.one)[path].name), DELIVERY_SECONDS)
        event = events.Event(type="tour.hello", data=f'{{"mark": "{self.mark}"}}')
        began = time.monotonic()
        self.one.edge.call(
            f"{EVENTS}/Publish", events.PublishRequest(parent=self.one.user, event=event), events.PublishResponse
        )
        seen = mine.wait("tour.hello", self.mark, DELIVERY_SECONDS)
        self.report.delivery_ms = round((seen.at - began) * 1000, 1)
        self.two.edge.call(
            f"{EVENTS}/Publish", events.PublishRequest(parent=self.two.user, event=event), events.PublishResponse
        )
        theirs.wait("tour.hello", self.mark, DELIVERY_SECONDS)
        strange = [event.type for event in theirs.seen if event.type.startswith("file.")]
        check(not strange, f"the other person's stream carried {strange}")
        return f"publish to arrival {self.report.delivery_ms} ms; the other stream carried none of it"

    def refuse(self) -> str:
        """What the owner may, the other tenant may not."""
        name = self._files(self.one)[KOREAN].name
        request = files.GetFileRequest(name=name)
        self.one.edge.call(f"{FILES}/GetFile", request, files.GetFileResponse)
        denied = grpc.StatusCode.PERMISSION_DENIED
        refused = expect_refusal(lambda: self.two.edge.call(f"{FILES}/GetFile", request, files.GetFileResponse))
        check(refused.code == denied.value[0], f"the other tenant's GetFile gave {refused}")
        check(len(self.one.edge.get(KOREAN, first=0, last=9)) == 10, "the owner cannot read")
        refused = expect_refusal(lambda: self.two.edge.get(KOREAN, first=0, last=9))
        check(refused.code == 404, f"the other tenant's GET gave {refused}")
        check(self._first_of_stream(self.one) == "", "the owner's stream was refused")
        code = self._first_of_stream(self.two)
        check(code == denied.name, f"the other tenant's Subscribe gave {code or 'messages'}")
        return "GetFile, GET and Subscribe: owner served, other tenant refused"

    def _first_of_stream(self, person: Person) -> str:
        """Subscribe to the first person's stream: "" when a message comes, else the gRPC code's name."""
        request = events.SubscribeRequest(parent=self.one.user, resume_token="earliest")
        with self.native(person) as (channel, metadata):
            stream = EventServiceStub(channel).Subscribe(request, metadata=metadata, timeout=20)
            try:
                for _ in stream:
                    break
            except grpc.RpcError as refused:
                return str(refused.code().name)
        return ""

    def back_up(self) -> str:
        """A full backup through the operator socket, watched to its end."""
        with grpc.insecure_channel(f"unix:{self.where.operator_socket}") as channel:
            stub = BackupServiceStub(channel)
            asked = backup.CreateBackupRequest(backup=backup.Backup(type=backup.BACKUP_TYPE_FULL))
            made = once_free(lambda: stub.CreateBackup(asked, timeout=30)).backup
            for update in stub.WatchBackup(backup.WatchBackupRequest(name=made.name), timeout=WORK_SECONDS):
                made = update.backup
        check(
            made.state == backup.STATE_SUCCEEDED,
            f"the backup ended {backup.State.Name(made.state)}: {made.error.message}",
        )
        check(bool(made.label), "the backup has no label")
        self.backup_name = made.name
        return (
            f"{made.label}: {made.database_bytes / 1e6:.0f} MB, {made.repository_bytes / 1e6:.1f} MB in the repository"
        )

    def drill(self) -> str:
        """Three heartbeats are made, the moment between two of them is restored and proved."""
        with grpc.insecure_channel(f"unix:{self.where.operator_socket}") as channel:
            recovery, drills = BackupServiceStub(channel), DrillServiceStub(channel)
            wanted, after, _ = (
                recovery.CreateHeartbeat(backup.CreateHeartbeatRequest(), timeout=120).heartbeat for _ in range(3)
            )
            between = (
                wanted.create_time.ToDatetime() + (after.create_time.ToDatetime() - wanted.create_time.ToDatetime()) / 2
            )
            target = Timestamp()
            target.FromDatetime(between)
            asked = backup.CreateDrillRequest(drill=backup.Drill(target=backup.DrillTarget(time=target)))
            done = once_free(lambda: drills.CreateDrill(asked, timeout=30)).drill
            for update in drills.WatchDrill(backup.WatchDrillRequest(name=done.name), timeout=WORK_SECONDS):
                done = update.drill
        return self._judge(done, wanted.sequence, after.sequence)

    def _judge(self, done: backup.Drill, wanted: int, absent: int) -> str:
        """The sentence of a drill that proved its target. Raises Failed for any other."""
        made = [one for one in done.checks if one.verdict != backup.CHECK_VERDICT_NOT_MADE]
        wrong = [f"{one.check}: {one.detail}" for one in made if not one.ok]
        state = backup.State.Name(done.state)
        check(done.state == backup.STATE_SUCCEEDED, f"the drill ended {state}: {done.error.message} {'; '.join(wrong)}")
        check(not wrong and len(made) > 0, f"checks failed: {wrong}")
        check(done.proof.heartbeat == wanted, f"restored heartbeat {done.proof.heartbeat}, not {wanted}")
        check(done.proof.absent_heartbeat == absent, f"heartbeat {absent} was not shown to be absent")
        check(done.HasField("rpo_seconds") and done.HasField("rto_seconds"), "the drill measured no RPO or RTO")
        self.report.rpo_seconds, self.report.rto_seconds = round(done.rpo_seconds, 3), round(done.rto_seconds, 3)
        answers = ", ".join(f"{one.check} {one.count}" for one in made)
        measured = f"RPO {done.rpo_seconds:.1f} s, RTO {done.rto_seconds:.1f} s"
        return f"heartbeat {wanted} restored, {absent} absent; {measured}; {answers}"

    def clean(self) -> str:
        """Remove what was made: files, streams, sessions, and the two persons."""
        for follower in self.followers:
            with suppress(OSError):
                follower.close()
        for person in (self.one, self.two):
            if not person.user:
                continue
            with suppress(Refused, OSError):
                for file in self._files(person).values():
                    gone = files.DeleteFileRequest(name=file.name)
                    person.edge.call(f"{FILES}/DeleteFile", gone, files.DeleteFileResponse)
                person.edge.call(f"{AUTH}/SignOut", auth.SignOutRequest(), auth.SignOutResponse)
        self.where.forget([self.one.email, self.two.email])
        return "files, sessions and people of the tour"


def expect_refusal(deed: Callable[[], object]) -> Refused:
    """The refusal that *deed* meets. Raises Failed when it is served."""
    try:
        deed()
    except Refused as refused:
        return refused
    raise Failed("it was served, and had to be refused")


def files_key(name: str) -> str:
    """The file's own id, which its event carries."""
    return name.rsplit("/", 1)[-1]


def run(where: Where, tell: Callable[[Step], None]) -> Report:
    """Take the tour and say each step as it ends; stops at the first that fails, and cleans up in any case."""
    report = Report()
    tour = Tour(where, report)
    try:
        for name, deed in tour.steps():
            step = timed(name, deed)
            report.steps.append(step)
            tell(step)
            if not step.ok:
                return report
    finally:
        step = timed("remove what the tour made", tour.clean)
        report.steps.append(step)
        tell(step)
    report.ok = all(step.ok for step in report.steps)
    return report


def once_free(ask: Callable[[], T]) -> T:
    """What *ask* answers once the timetable's own backup, expiry or drill has ended; BACKUP_BUSY only after a while."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return ask()
        except grpc.RpcError as error:
            call: Any = error
            if from_rpc(call).reason != "BACKUP_BUSY" or time.monotonic() > until:
                raise
        time.sleep(BUSY_PAUSE_SECONDS)


def timed(name: str, deed: Callable[[], str]) -> Step:
    """Do one deed and say how it went: a refusal, a lost connection or a broken promise is a failed step."""
    began = time.monotonic()
    try:
        detail, ok = deed(), True
    except grpc.RpcError as error:
        detail, ok = f"{error.code().name}: {error.details()}", False
    except (Failed, Refused, TimeoutError, OSError) as error:
        detail, ok = str(error) or type(error).__name__, False
    return Step(name, ok, round((time.monotonic() - began) * 1000, 1), detail)
