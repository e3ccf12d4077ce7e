"""The life of a process: parts that start, refuse, drain and stop in order; signals; verbs; exit codes.

SIGTERM or SIGINT: every part refuses (reports NOT_SERVING and goes on answering) → the edge gets time to notice, as set
→ all parts drain at once, within one time → parts stop in reverse order → exit 0. A second signal ends the process at
once with 128 + its number. A part that cannot start, or a task that fails unseen, stops everything the same way without
the notice, and the exit code is 1. Exit codes: libs.config.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from libs import clock, config, ids
from libs.errors import AppError
from libs.observability import log
from libs.timeouts import within

STOP_SECONDS = 10.0
"""How long one part may take to stop, and how much longer than its drain time a drain may take to give up."""
CHECK_SECONDS = 15.0


class Part(Protocol):
    """Everything with a life: a server, a pool, a worker. Methods are called once, in this order."""

    async def start(self) -> None:
        """Begin. Must not wait for a dependency that may be absent; raises when it never can begin (port taken)."""

    def refuse(self) -> None:
        """Report NOT_SERVING, and go on answering."""

    async def drain(self, seconds: float) -> None:
        """Take nothing new, tell streams to leave, let running work end within *seconds*."""

    async def stop(self) -> None:
        """Let go of everything. Called also after a start that failed."""


@runtime_checkable
class Checked(Protocol):
    """A part that can examine itself and what it stands on."""

    async def check(self) -> list[str]:
        """What is wrong, each a sentence; [] when nothing is."""


class App:
    """A process as the parts it is made of, in the order they start. A part stands on those before it."""

    def __init__(self, name: str, parts: Sequence[Part], *, edge_notice_seconds: float, drain_seconds: float) -> None:
        self.name, self.parts = name, tuple(parts)
        self._notice, self._drain = edge_notice_seconds, drain_seconds
        self._started: list[Part] = []
        self._asked = asyncio.Event()
        self._code = config.EXIT_OK
        self._signals = 0
        self._log = log.get(__name__)

    async def start(self) -> None:
        """Start the parts in order; when one fails, those begun are stopped and its error is raised."""
        for part in self.parts:
            self._started.append(part)
            try:
                await part.start()
            except BaseException as error:
                if isinstance(error, Exception):
                    self._log.error("part_failed_to_start", part=_name(part), exc_info=error)
                await self._stop()
                raise

    async def shutdown(self, *, notice: bool = True) -> None:
        """Refuse, give notice, drain, stop. notice: False when there is nothing left to protect."""
        for part in self._started:
            part.refuse()
        self._log.info("refusing", notice_seconds=self._notice if notice else 0)
        if notice and self._notice:
            await asyncio.sleep(self._notice)
        self._log.info("draining", seconds=self._drain)
        await asyncio.gather(*(self._drained(part) for part in self._started))
        await self._stop()

    def ask(self, code: int = config.EXIT_OK) -> None:
        """Ask the running app to end with *code*; the worst code asked for wins."""
        self._code = max(self._code, code)
        self._asked.set()

    async def run(self) -> int:
        """Serve until a signal or a fault; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_fault)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        starting = loop.create_task(self.start())
        asked = loop.create_task(self._asked.wait())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            return self._code
        except Exception:
            asked.cancel()
            return config.EXIT_FAULT
        self._log.info("serving", parts=[_name(part) for part in self.parts], pid=os.getpid())
        await asked
        await self.shutdown(notice=self._code == config.EXIT_OK)
        self._log.info("stopped", code=self._code)
        _end_by_force(STOP_SECONDS)
        return self._code

    async def check(self) -> list[str]:
        """What every Checked part finds, each started alone for it and stopped again."""
        found: list[str] = []
        for part in self.parts:
            if not isinstance(part, Checked):
                continue
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await part.start()
                    found.extend(f"{_name(part)}: {fault}" for fault in await part.check())
            except TimeoutError:
                found.append(f"{_name(part)}: no answer within {CHECK_SECONDS:g} seconds")
            except Exception as error:
                self._log.error("check_failed", part=_name(part), exc_info=error)
                found.append(f"{_name(part)}: {type(error).__name__} while it was examined")
            finally:
                await part.stop()
        return found

    async def _drained(self, part: Part) -> None:
        try:
            async with asyncio.timeout(self._drain + STOP_SECONDS):
                await part.drain(self._drain)
        except Exception as error:
            self._code = max(self._code, config.EXIT_FAULT)
            self._log.error("drain_failed", part=_name(part), exc_info=error)

    async def _stop(self) -> None:
        while self._started:
            part = self._started.pop()
            try:
                await within(STOP_SECONDS, part.stop())
            except Exception as error:
                self._code = max(self._code, config.EXIT_FAULT)
                self._log.error("stop_failed", part=_name(part), exc_info=error)

    def _signalled(self, number: int) -> None:
        if self._signals:
            # Nothing is flushed or awaited any more: whoever signals twice wants the process gone.
            os._exit(128 + number)
        self._signals += 1
        self._log.info("signal", name=signal.Signals(number).name)
        self.ask()

    def _loop_fault(self, _: asyncio.AbstractEventLoop, told: Mapping[str, Any]) -> None:
        error = told.get("exception")
        task = told.get("task") or told.get("future")
        # A peer that went away is not our fault, even where somebody forgot to look at the task.
        unseen = isinstance(task, asyncio.Task) and error is not None and not isinstance(error, ConnectionError)
        fatal = unseen or _FATAL in told
        name = task.get_name() if isinstance(task, asyncio.Task) else ""
        event = "task_failed" if fatal else "loop_fault"
        self._log.error(event, about=told.get("message", ""), task=name, exc_info=error)
        if fatal:
            self.ask(config.EXIT_FAULT)


_FATAL = "holdfast_fatal"


def spawn(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Run *work* for as long as the process lives; keep the task and cancel it in `stop`.

    When it raises, the fault is logged and the process ends with code 1: a part that has silently lost its loop is
    worse than one that is started again. A plain create_task has the same effect only once its task is forgotten.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        told = {"message": "a task of the process failed", "exception": error, "task": task, _FATAL: True}
        task.get_loop().call_exception_handler(told)


def calm_collector() -> None:
    """Look for cyclic garbage less often, and never again among what start-up has made.

    A service holds thousands of live objects per second of work and makes hardly any cycles; at the interpreter's own
    thresholds a third of a busy worker's time went into looking for them (BENCHMARKS.md, P3).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel *tasks* and wait until each has ended; whatever they raise is theirs to have reported."""
    live = [task for task in tasks if task is not None]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)


def _end_by_force(seconds: float) -> None:
    # asyncio and the interpreter wait for their threads without limit; one that hangs must not keep us here.
    timer = threading.Timer(seconds, os._exit, (config.EXIT_FAULT,))
    timer.daemon = True
    timer.start()


ConfigT = TypeVar("ConfigT", bound=config.ServiceConfig)
ConfigT_contra = TypeVar("ConfigT_contra", bound=config.ServiceConfig, contravariant=True)


class Build(Protocol[ConfigT_contra]):
    """A composition root; called inside the running loop."""

    def __call__(self, config: ConfigT_contra, /, *, now: clock.Clock, ids: Callable[[], str]) -> App:
        """The app made of its parts; nothing has started."""


Deed = Callable[[ConfigT, str], Awaitable[str]]


def main(
    config_type: type[ConfigT],
    build: Build[ConfigT],
    *,
    work: Build[ConfigT] | None = None,
    migrate: Callable[[Mapping[str, str]], None] | None = None,
    deeds: Mapping[str, "Deed[ConfigT]"] = MappingProxyType({}),
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> NoReturn:
    """Run a service's program and exit. Verbs: serve (the default), check, and, where given, work and migrate.

    build: server and worker in one; work: the worker alone; migrate: is handed the environment, since it needs the
    owner role's secret, which no serving process has. deeds: further verbs, each done once to what the command line
    names after it; what it gives back is printed, and an AppError is told in its words with exit code 1.
    """
    environ = os.environ if environ is None else environ
    verbs = ["serve", "check", *(["work"] if work else []), *(["migrate"] if migrate else []), *deeds]
    chosen = _parser(config_type, verbs).parse_args(arguments)
    if chosen.verb == "migrate" and migrate:
        migrate(environ)
        sys.exit(config.EXIT_OK)
    try:
        loaded = config.load(config_type, environ)
    except config.ConfigError as error:
        _report_refusal(config_type, error.faults, as_json=chosen.json and chosen.verb == "check")
        sys.exit(config.EXIT_CONFIG)
    log.configure(loaded.service, loaded.log_format, loaded.log_level)
    if chosen.verb == "check":
        found = _run(_check(loaded, build))
        _report(loaded.service, found, as_json=chosen.json)
        sys.exit(config.EXIT_FAULT if found else config.EXIT_OK)
    if chosen.verb in deeds:
        sys.exit(_run(_do(deeds[chosen.verb], loaded, chosen.subject)))
    sys.exit(_run(_serve(loaded, work if chosen.verb == "work" and work else build)))


ResultT = TypeVar("ResultT")


def _run(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    try:
        return asyncio.run(coroutine)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        log.get(__name__).critical("internal", exc_info=error)
        sys.exit(config.EXIT_INTERNAL)


async def _serve(loaded: ConfigT, build: Build[ConfigT]) -> int:
    app = build(loaded, now=clock.now, ids=ids.new_id)
    calm_collector()
    return await app.run()


async def _do(deed: "Deed[ConfigT]", loaded: ConfigT, subject: str) -> int:
    try:
        print(await deed(loaded, subject))
    except AppError as fault:
        print(fault.message, file=sys.stderr)
        return config.EXIT_FAULT
    return config.EXIT_OK


async def _check(loaded: ConfigT, build: Build[ConfigT]) -> list[str]:
    return await build(loaded, now=clock.now, ids=ids.new_id).check()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(config.EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser(config_type: type[config.ServiceConfig], verbs: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_service(config_type),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings:\n" + config.describe(config_type),
    )
    parser.add_argument("verb", nargs="?", default="serve", choices=verbs, help="what to do (default: serve)")
    parser.add_argument("subject", nargs="?", default="", help="what a verb that is done once is done to")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout (check)")
    return parser


def _report(service: str, found: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": not found, "service": service, "faults": list(found)}))
        return
    for fault in found:
        print(f"fault: {fault}")
    print(f"{service}: {len(found)} found" if found else f"{service}: ok")


def _report_refusal(config_type: type[config.ServiceConfig], faults: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        _report(_service(config_type), faults, as_json=True)
        return
    print(f"{_service(config_type)}: the configuration is refused:", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)


def _service(config_type: type[config.ServiceConfig]) -> str:
    return str(config_type.__dataclass_fields__["service"].default)


def _name(part: object) -> str:
    return type(part).__name__
