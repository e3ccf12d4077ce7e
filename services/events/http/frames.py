"""Server-sent events as bytes. Nothing that is stored or sent can begin a field of its own.

`id:` is the resume token, written with every block: by the standard it counts even where a block dispatches nothing,
so a browser that saw only heartbeats resumes right.
"""

import json
import random
import re

from services.events.domain.event import Event
from services.events.domain.position import Reset, token

_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = str.maketrans("", "", "\r\n\0")


def event(epoch: str, found: Event) -> bytes:
    """One event: id, type and data."""
    return _block(token(epoch, found.offset), found.type, found.data)


def reset(told: Reset, resume: str) -> bytes:
    """`event: reset`, data {"cause","oldest","newest"}; going on from the newest event."""
    return _block(resume, "reset", json.dumps({"cause": told.cause, "oldest": told.oldest, "newest": told.newest}))


def heartbeat(resume: str) -> bytes:
    """A comment that keeps middle boxes from cutting the connection; no event is dispatched."""
    return f": alive\nid: {_line(resume)}\n\n".encode()


def goodbye(cause: str, resume: str) -> bytes:
    """`event: goodbye`, data {"cause"}, with a jittered time to come back."""
    return _retry(1.0) + _block(resume, "goodbye", json.dumps({"cause": cause}))


def refused(reason: str, message: str, retry_seconds: float) -> bytes:
    """A temporary refusal as an event, since any status but 200 would end a browser's EventSource for good."""
    return _retry(retry_seconds) + _block("", "refused", json.dumps({"reason": reason, "message": message}))


def _retry(seconds: float) -> bytes:
    return f"retry: {int(seconds * random.uniform(500, 1500))}\n".encode()


def _block(resume: str, type: str, data: str) -> bytes:
    lines = [f"id: {_line(resume)}"] if resume else []
    lines.append(f"event: {_line(type)}")
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def _line(value: str) -> str:
    return value.translate(_FORBIDDEN)
