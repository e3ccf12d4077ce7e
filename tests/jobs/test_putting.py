"""What cannot be put is refused with a reason, by the program and not by the database."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, enqueue, put_many
from libs.jobqueue.job import decode
from tests.jobs.doing import ANNA, claimed, execute, given, rows
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase


@dataclass(frozen=True, slots=True)
class Counted:
    """Holds a number."""

    times: int
    share: float = 1.0


class Word(StrEnum):
    """May stand where text is declared."""

    YES = "yes"


NOTE: Any = SendNote
COUNTED: Any = Counted


@pytest.mark.parametrize("job", [NOTE(5), NOTE(None), COUNTED("3"), COUNTED(True), COUNTED(1.5), COUNTED(1, "x")])
async def test_a_job_that_could_never_be_read_again_is_refused_when_it_is_put(files: Database, job: Any) -> None:
    with pytest.raises(JobInvalid, match="as declared"):
        await given(files, job)


@dataclass(frozen=True, slots=True)
class Derived:
    """Has a field that nobody can give it."""

    text: str
    length: int = field(init=False, default=0)


async def test_a_job_with_a_field_that_cannot_be_given_is_refused_when_it_is_put(files: Database) -> None:
    with pytest.raises(JobInvalid, match="cannot be given"):
        await given(files, Derived("x"))


@pytest.mark.parametrize(("job", "read"), [(NOTE(Word.YES), SendNote("yes")), (COUNTED(1, 2), Counted(1, 2.0))])
async def test_what_reads_as_declared_may_be_put(files: Database, job: Any, read: Any) -> None:
    [put] = await given(files, job)
    found = await claimed(files)
    assert (found.lease.job_id, decode(type(job), found.payload)) == (put, read)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"run_at": 5}, "run_at has to be"),
        ({"run_at": "2030-01-01"}, "run_at has to be"),
        ({"priority": True}, "whole number"),
        ({"priority": 1.0}, "whole number"),
        ({"unique": None}, "unique key"),
        ({"unique": 5}, "unique key"),
    ],
)
async def test_an_argument_of_another_type_is_refused_before_it_spoils_the_transaction(
    files: Database, database: TestDatabase, how: dict[str, Any], says: str
) -> None:
    async with files.begin(ANNA) as tx:
        with pytest.raises(JobInvalid, match=says):
            await enqueue.put(tx, SendNote("x"), **how)
        [job] = await put_many(tx, [SendNote("fine")])
    assert rows(database, "SELECT id FROM jobs.jobs") == [(job,)]


async def test_more_than_postgres_takes_at_once_is_refused_with_the_way_out(
    files: Database, database: TestDatabase
) -> None:
    most = enqueue.MAX_BATCH_CHARACTERS // 60_000
    async with files.begin(ANNA) as tx:
        with pytest.raises(JobInvalid, match="in parts"):
            await put_many(tx, [SendNote("x" * 60_000)] * (most + 1))
        assert len(await put_many(tx, [SendNote("é" * 30_000)] * 2 * (most // 10))) == 2 * (most // 10)
    assert rows(database, "SELECT count(*) FROM jobs.jobs") == [(2 * (most // 10),)]


async def test_a_dead_letter_does_not_answer_for_the_job_that_has_its_key_now(
    files: Database, database: TestDatabase
) -> None:
    [dead] = await given(files, SendNote("first"), unique="k")
    execute(database, "UPDATE jobs.jobs SET state = 'dead', finished_at = clock_timestamp()")
    [heir] = await given(files, SendNote("second"), unique="k")
    assert heir != dead
    assert await given(files, SendNote("third"), unique="k") == [heir]
