"""The route: who asks, from where, then the stream. Temporary refusals keep EventSource alive, others end it."""

import json
from time import perf_counter
from urllib.parse import parse_qs

from libs.clock import Clock
from libs.errors import AppError, InvalidArgument, Kind
from libs.http1 import Request, Response
from libs.http1 import Stream as Answer
from libs.observability import context, log
from libs.observability.metric import Metrics
from libs.rpc import errors
from libs.rpc.policy import RoutePolicy, route
from services.events.domain.errors import ForeignEvent, SessionEnded, SlowReader
from services.events.http import frames
from services.events.http.caller import Verify, caller
from services.events.http.sink import SseSink
from services.events.ops.stream import Stream
from services.events.ops.subscriptions import Subscriptions

PATH = "/v1/events"
_HEADERS = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),
)
_TEMPORARY = frozenset({Kind.EXHAUSTED, Kind.UNAVAILABLE})
_QUERY_NAMES = ("last_event_id", "lastEventId")
_BUFFER_BYTES = 32 * 1024


class Endpoint:
    """A handler for libs.http1.Server."""

    def __init__(self, subscriptions: Subscriptions, *, verify: Verify, metrics: Metrics, now: Clock) -> None:
        self._subscriptions, self._verify, self._metrics, self._now = subscriptions, verify, metrics, now
        metrics.declare_http([PATH])

    async def __call__(self, request: Request) -> Response | Answer:
        """Open the stream that *request* asks for, or say why not; counted by the time until then."""
        begun = perf_counter()
        request_id = context.accept(request.header(errors.REQUEST_ID))
        with context.bound(request=request_id):
            answer = await self._answer(request, request_id)
        self._metrics.http_handled(request.path, request.method, answer.status, perf_counter() - begun)
        return answer

    async def _answer(self, request: Request, request_id: str) -> Response | Answer:
        policy = route(request.method, request.path)
        if policy is None:
            return Response(405 if request.path == PATH else 404, [(errors.REQUEST_ID, request_id)])
        try:
            return await self._open(request, policy, request_id)
        except AppError as error:
            return _refusal(error, request_id)

    async def _open(self, request: Request, policy: RoutePolicy, request_id: str) -> Answer:
        who = caller(request, policy, self._verify, self._now())
        stream = await self._subscriptions.open(who, resume_token(request))
        return Answer(
            200,
            (*_HEADERS, (errors.REQUEST_ID, request_id)),
            run=lambda answer: _follow(stream, answer),
            on_close=lambda _: self._subscriptions.close(stream),
            on_drain=lambda _: stream.end("draining"),
            buffer_bytes=_BUFFER_BYTES,
        )


def resume_token(request: Request) -> str:
    """Where to go on: the header a browser sends when it reconnects, else the query a first connection may carry.

    Raises InvalidArgument for a query of more than 20 fields.
    """
    header = request.header("last-event-id")
    if header:
        return header
    try:
        query = parse_qs(request.query, max_num_fields=20) if request.query else {}
    except ValueError:
        raise InvalidArgument("The query has more than 20 fields; only last_event_id is read.") from None
    return next((query[name][-1] for name in _QUERY_NAMES if name in query), "")


async def _follow(stream: Stream, answer: Answer) -> None:
    try:
        await stream.run(SseSink(answer))
    except (SlowReader, SessionEnded, ForeignEvent) as error:
        log.get(__name__).info("stream_ended", reason=type(error).__name__)


def _refusal(error: AppError, request_id: str) -> Response:
    headers = [(errors.REQUEST_ID, request_id), ("cache-control", "no-store")]
    if error.kind in _TEMPORARY:
        body = frames.refused(error.reason, error.message, error.retry_after_seconds or 3.0)
        return Response(200, [*headers, _HEADERS[0]], body)
    content = json.dumps(errors.body(error, request_id)).encode()
    return Response(errors.http_status(error.kind), [*headers, ("content-type", "application/json")], content)
