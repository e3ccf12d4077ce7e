"""The contract's field bounds, enforced: rules come from the descriptor image, never from the stubs.

The image is parsed into a descriptor pool of its own, because two copies of buf/validate in one pool crash. A message
is checked by parsing its bytes a second time into that pool's class: 0.2 µs more, against serialising a message that
was just parsed.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import protovalidate
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from libs.errors import InvalidArgument, Violation

IMAGE = Path(__file__).with_name("image.binpb")


class RulesMissing(Exception):
    """The image is absent, unreadable, or does not know a message that is served: refuse to start."""


class Rules:
    """The rules of every message in the image at *path*. Raises RulesMissing."""

    def __init__(self, path: Path = IMAGE) -> None:
        try:
            image = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        except (OSError, DecodeError) as fault:
            raise RulesMissing(
                f"cannot read the rules at {path.name} ({type(fault).__name__}): run `make protos`"
            ) from None
        self._pool = descriptor_pool.DescriptorPool()
        for file in image.file:
            self._pool.AddSerializedFile(file.SerializeToString())
        self._validator = protovalidate.Validator()

    def compiled(self, message: str) -> Callable[[bytes], Any]:
        """A check of the message type with this full name, compiled now: bytes in, InvalidArgument out or nothing.

        Raises RulesMissing for an unknown message, and for rules that do not compile.
        """
        kind = self._class(message)
        collect = self._validator.collect_violations
        try:
            collect(kind())
        except (protovalidate.CompilationError, protovalidate.EvaluationError) as fault:
            raise RulesMissing(f"the rules of {message} do not compile: {fault}") from fault

        def check(raw: bytes) -> None:
            asked = kind.FromString(raw)
            violations = _told(collect(asked))
            if not violations and b"\0" in raw:
                violations = [Violation(name, "holds a NUL, which no text may") for name in _nuls(asked)]
            if violations:
                raise InvalidArgument(_named(violations), violations=violations)

        return check

    def _class(self, message: str) -> type[Message]:
        try:
            return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(message))
        except KeyError:
            raise RulesMissing(f"the rules know no message {message}: run `make protos`") from None


def _told(found: Iterable[protovalidate.Violation]) -> list[Violation]:
    return [Violation(path(each), each.proto.message or each.proto.rule_id) for each in found]


def _named(violations: Iterable[Violation]) -> str:
    named = ", ".join(sorted({each.field for each in violations if each.field}))
    return f"These fields break their bounds: {named}." if named else "The request breaks its bounds."


def _nuls(message: Message, within: str = "") -> Iterator[str]:
    """The paths of the text fields of *message* that hold U+0000: valid in protobuf, impossible in Postgres."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else (value,):
            if isinstance(each, str) and "\0" in each:
                yield f"{within}{field.name}"
            elif isinstance(each, Message):
                yield from _nuls(each, f"{within}{field.name}.")


def path(violation: protovalidate.Violation) -> str:
    """The proto path of the field a violation is about, e.g. `sessions[1].user_id`."""
    field = violation.proto.field
    if field is None:
        return ""
    parts = []
    for element in field.elements:
        subscript = element.subscript
        shown = "" if subscript is None else f"[{subscript.value!r}]"
        parts.append(f"{element.field_name}{shown}")
    return ".".join(parts)
