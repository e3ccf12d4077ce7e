"""One valid request for every method of the contract, for a given user; the matrices are derived from it.

A new method without a sample fails `test_every_method_has_a_sample`: the matrices never fall behind the contract.
"""

from collections.abc import Iterator, Mapping

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.auth.v1 import token_service_pb2 as token
from holdfast.backup.v1 import backup_service_pb2 as backup
from holdfast.backup.v1 import evidence_service_pb2 as evidence
from holdfast.backup.v1 import upkeep_service_pb2 as upkeep
from holdfast.events.v1 import event_service_pb2 as events
from holdfast.files.v1 import file_service_pb2 as files
from holdfast.jobs.v1 import job_service_pb2 as jobs

ABSENT = "0" * 26


def requests(user: str) -> Mapping[str, Message]:
    """A valid first request of each method by its path. user: organizations/{o}/users/{u}."""
    organization, user_id = user.split("/")[1::2]
    file = f"{user}/files/{ABSENT}"
    session = token.SessionRef(organization_id=organization, user_id=user_id, session_id=ABSENT)
    event = events.Event(type="sample.told", data="{}")
    made: dict[str, dict[str, Message]] = {
        "holdfast.auth.v1.AuthService": {
            "Register": auth.RegisterRequest(email="not-an-address", password="correct horse battery"),
            "VerifyEmail": auth.VerifyEmailRequest(token="never-issued-" + ABSENT),
            "SignIn": auth.SignInRequest(email="nobody@example.com", password="correct horse battery"),
            "RefreshSession": auth.RefreshSessionRequest(refresh_token="never-issued"),
            "SignOut": auth.SignOutRequest(),
            "GetMe": auth.GetMeRequest(),
        },
        "holdfast.auth.v1.TokenService": {
            "ExchangeToken": token.ExchangeTokenRequest(user=user, audience="files"),
            "CheckSessions": token.CheckSessionsRequest(sessions=[session]),
        },
        "holdfast.files.v1.FileService": {
            "UploadFile": files.UploadFileRequest(
                header=files.UploadHeader(parent=user, path="sample.txt", size_bytes=0)
            ),
            "DownloadFile": files.DownloadFileRequest(name=file),
            "GetFile": files.GetFileRequest(name=file),
            "ListFiles": files.ListFilesRequest(parent=user),
            "DeleteFile": files.DeleteFileRequest(name=file),
        },
        "holdfast.events.v1.EventService": {
            "Publish": events.PublishRequest(parent=user, event=event),
            "Subscribe": events.SubscribeRequest(parent=user, resume_token="earliest"),
        },
    } | _for_operators()
    return {f"/{service}/{method}": made[service][method] for service in made for method in made[service]}


def _for_operators() -> dict[str, dict[str, Message]]:
    return {
        "holdfast.backup.v1.BackupService": {
            "CreateBackup": backup.CreateBackupRequest(backup=backup.Backup()),
            "GetBackup": backup.GetBackupRequest(name=f"backups/{ABSENT}"),
            "ListBackups": backup.ListBackupsRequest(),
            "WatchBackup": backup.WatchBackupRequest(name=f"backups/{ABSENT}"),
            "CreateHeartbeat": backup.CreateHeartbeatRequest(),
            "GetRecoveryStatus": backup.GetRecoveryStatusRequest(),
        },
        "holdfast.backup.v1.DrillService": {
            "CreateDrill": backup.CreateDrillRequest(drill=backup.Drill()),
            "GetDrill": backup.GetDrillRequest(name=f"drills/{ABSENT}"),
            "ListDrills": backup.ListDrillsRequest(),
            "CancelDrill": backup.CancelDrillRequest(name=f"drills/{ABSENT}"),
            "WatchDrill": backup.WatchDrillRequest(name=f"drills/{ABSENT}"),
        },
        "holdfast.backup.v1.EvidenceService": {
            "GetEvidenceStatus": evidence.GetEvidenceStatusRequest(),
            "ExportEvidence": evidence.ExportEvidenceRequest(),
        },
        "holdfast.backup.v1.UpkeepService": {
            "GetSchedule": upkeep.GetScheduleRequest(),
            "RunTask": upkeep.RunTaskRequest(task=upkeep.TASK_VERIFY),
            "ListExposures": upkeep.ListExposuresRequest(),
        },
        "holdfast.jobs.v1.JobService": {
            "ListJobs": jobs.ListJobsRequest(),
            "GetJob": jobs.GetJobRequest(name=f"jobs/{ABSENT}"),
            "RetryJob": jobs.RetryJobRequest(name=f"jobs/{ABSENT}"),
            "BulkRetryJobs": jobs.BulkRetryJobsRequest(filter=jobs.JobFilter(state=jobs.JOB_STATE_DEAD)),
            "CancelJob": jobs.CancelJobRequest(name=f"jobs/{ABSENT}"),
            "ListQueues": jobs.ListQueuesRequest(),
            "PauseQueue": jobs.PauseQueueRequest(name="services/files/queues/default"),
            "ResumeQueue": jobs.ResumeQueueRequest(name="services/files/queues/default"),
            "GetGuard": jobs.GetGuardRequest(),
            "ReleaseGuard": jobs.ReleaseGuardRequest(action=jobs.RELEASE_ACTION_REQUEUE),
        },
    }


def named_for_a_user(request: Message) -> bool:
    """Whether the request names something under a user, and so could name another's."""
    return any("/users/" in value for value in texts(request))


def texts(message: Message) -> Iterator[str]:
    """Each text field of the message and of those inside it."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        for one in values:
            if isinstance(one, Message):
                yield from texts(one)
            elif isinstance(one, str):
                yield one


def answer_class(path: str) -> type[Message]:
    """The response message of a method. path: `/package.Service/Method`."""
    method = descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", "."))
    return message_factory.GetMessageClass(method.output_type)
