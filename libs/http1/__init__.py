"""A small, strict HTTP/1.1 server on asyncio for the two hot paths: the edge's authorization check and event streams.

It owns framing, limits, deadlines, back pressure and draining; it does not own routes, TLS (the edge does) or large
bodies (Starlette on uvicorn does). `Server` is a libs.process Part; a handler takes a `Request` and returns a
`Response` or a `Stream`. Source: RFC 9110, RFC 9112; parsing is llhttp's through httptools, never lenient.
"""

from libs.http1.message import Limits, Request, Response
from libs.http1.server import Handler, Server
from libs.http1.stream import Stream, StreamClosed, frame

__all__ = ["Handler", "Limits", "Request", "Response", "Server", "Stream", "StreamClosed", "frame"]
