"""Every refusal has its code, its HTTP status and a reason of the contract."""

import importlib
import pkgutil

import pytest
from google.rpc import error_details_pb2

import libs
import services
from holdfast.common.v1 import error_reason_pb2
from libs.errors import AppError, InvalidArgument, Kind, Unavailable, Violation
from libs.rpc import errors


def _classes(base: type[AppError]) -> set[type[AppError]]:
    return {base} | {found for each in base.__subclasses__() for found in _classes(each)}


def _everything() -> set[type[AppError]]:
    for package in (libs, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    # A class whose reason is a property gives back one that was kept; it has none of its own.
    found = {each for each in _classes(AppError) if not each.__module__.startswith("tests.")}
    return {each for each in found if isinstance(each.reason, str)}


def test_every_kind_has_its_row() -> None:
    assert set(errors.TABLE) == set(Kind)
    assert len({row.code for row in errors.TABLE.values()}) == len(Kind)


def test_every_refusal_has_a_reason_of_the_contract() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name in list(error_reason_pb2.ErrorReason.keys())}
    strangers = {
        f"{each.__module__}.{each.__name__}: {each.reason}" for each in _everything() if each.reason not in contract
    }
    assert strangers == set()
    assert {"FOREIGN_NAME", "INVALID_USER_TOKEN", "FILE_NOT_FOUND"} <= {each.reason for each in _everything()}


def test_field_violations_come_as_one_bad_request() -> None:
    error = InvalidArgument("Two fields.", violations=[Violation("a.b", "too long"), Violation("c", "missing")])
    status = errors.to_status(error, "r1")
    bad = error_details_pb2.BadRequest()
    assert [detail.Unpack(bad) for detail in status.details].count(True) == 1
    assert [(each.field, each.description) for each in bad.field_violations] == [("a.b", "too long"), ("c", "missing")]


@pytest.mark.parametrize("kind", list(Kind))
def test_only_waiting_helps_where_it_helps(kind: Kind) -> None:
    class Refusal(AppError):
        reason = "UNAVAILABLE"

    Refusal.kind = kind
    told = errors.retry_after_seconds(Refusal("Wait.", retry_after_seconds=3))
    assert told == (3 if kind in (Kind.UNAVAILABLE, Kind.EXHAUSTED) else None)


def test_json_says_the_same_as_the_status() -> None:
    body = errors.body(Unavailable("Postgres is away.", retry_after_seconds=1, part="Postgres"), "r1")["error"]
    assert body == {
        "code": 14, "status": "UNAVAILABLE", "message": "Postgres is away.", "reason": "UNAVAILABLE", "request_id":
        "r1", "violations": [], "facts": {"part": "Postgres"}, "retry_after_seconds": 1,
    }  # fmt: skip
    assert errors.http_status(Kind.UNAVAILABLE) == 503


def test_an_unknown_exception_keeps_its_text_to_itself() -> None:
    assert "hunter2" not in errors.masked(RuntimeError("hunter2")).message
    known = Unavailable("Away.")
    assert errors.masked(known) is known
