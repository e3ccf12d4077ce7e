"""holdfast.backup.v1.UpkeepService."""

from datetime import timedelta

from holdfast.backup.v1 import upkeep_service_pb2 as pb
from holdfast.backup.v1 import upkeep_service_pb2_grpc as grpc_pb
from libs.clock import Clock
from libs.errors import InvalidArgument, Violation
from libs.rpc.server import Context, principal
from services.backup.domain.condition import Condition, Severity
from services.backup.domain.exposure import Sample, minute
from services.backup.domain.schedule import Attempt, Due, Task
from services.backup.ops.conditions import Conditions
from services.backup.ops.exposures import Exposures
from services.backup.ops.record import Recorder
from services.backup.ops.scheduler import Scheduler
from services.backup.ops.watch import Watch
from services.backup.rpc.messages import lost_interval, moment, timestamp

_TASKS = {
    Task.FULL: pb.TASK_FULL,
    Task.DIFFERENTIAL: pb.TASK_DIFFERENTIAL,
    Task.EXPIRE: pb.TASK_EXPIRE,
    Task.VERIFY: pb.TASK_VERIFY,
}
_SEVERITIES = {Severity.CRITICAL: pb.SEVERITY_CRITICAL, Severity.WARNING: pb.SEVERITY_WARNING}
_POINTS = 96


class UpkeepServicer(grpc_pb.UpkeepServiceServicer):
    """The schedule, what stands wrong, and the history of exposure, for operators."""

    def __init__(
        self,
        scheduler: Scheduler,
        watch: Watch,
        conditions: Conditions,
        exposures: Exposures,
        recorder: Recorder,
        *,
        now: Clock,
    ) -> None:
        self._scheduler = scheduler
        self._watch = watch
        self._conditions = conditions
        self._exposures = exposures
        self._recorder = recorder
        self._now = now

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        """What is done next and why."""
        due = {one.task: one for one in await self._scheduler.agenda()}
        order = [*due, *(task for task in Task if task not in due)]
        return pb.GetScheduleResponse(
            enabled=self._scheduler.enabled,
            tasks=[_task(task, due.get(task), self._scheduler.attempts.get(task)) for task in order],
            conditions=[_condition(one) for one in self._conditions.standing()],
            lost_intervals=[lost_interval(one) for one in self._watch.breaches],
        )

    async def RunTask(self, request: pb.RunTaskRequest, context: Context) -> pb.RunTaskResponse:
        """Have it done soon."""
        task = next(task for task, number in _TASKS.items() if number == request.task)
        await self._recorder.audit(principal(context), "task.asked", task=task.value)
        self._scheduler.ask(task)
        return pb.RunTaskResponse()

    async def ListExposures(self, request: pb.ListExposuresRequest, context: Context) -> pb.ListExposuresResponse:
        """The history, cut into equal parts."""
        end = moment(request.end_time, "end_time") if request.HasField("end_time") else self._now()
        begin = moment(request.begin_time, "begin_time") if request.HasField("begin_time") else end - timedelta(days=1)
        if begin >= end:
            raise InvalidArgument(
                "The beginning has to lie before the end.",
                violations=[Violation("begin_time", "has to lie before end_time")],
            )
        begin = minute(begin)
        step = max(timedelta(minutes=1), (end - begin) / (request.points or _POINTS))
        found = await self._exposures.history(begin, end, step)
        return pb.ListExposuresResponse(points=[_point(one) for one in found])


def _task(task: Task, due: Due | None, last: Attempt | None) -> pb.ScheduledTask:
    return pb.ScheduledTask(
        task=_TASKS[task],
        due_time=timestamp(due.at) if due else None,
        reason=due.why if due else "",
        last_time=timestamp(last.ended_at) if last else None,
        last_fault=last.fault if last else "",
        last_good_time=timestamp(last.good_at) if last else None,
        failures=last.failures if last else 0,
    )


def _condition(one: Condition) -> pb.Condition:
    return pb.Condition(
        condition=one.name.value,
        severity=_SEVERITIES[one.severity],
        text=one.text,
        remedy=one.remedy,
        since_time=timestamp(one.since),
    )


def _point(one: Sample) -> pb.ExposurePoint:
    return pb.ExposurePoint(
        begin_time=timestamp(one.minute),
        exposure_seconds=one.exposure_seconds,
        archive_queue_segments=one.waiting,
        rpo_broken=one.broken,
    )
