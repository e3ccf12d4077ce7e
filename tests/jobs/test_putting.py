"""What cannot be put is refused with a reason, by the program and not by the database."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid
from libs.jobqueue.job import decode
from tests.jobs.doing import claimed, given
from tests.jobs.samples import SendNote


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


@pytest.mark.parametrize(("job", "read"), [(NOTE(Word.YES), SendNote("yes")), (COUNTED(1, 2), Counted(1, 2.0))])
async def test_what_reads_as_declared_may_be_put(files: Database, job: Any, read: Any) -> None:
    [put] = await given(files, job)
    found = await claimed(files)
    assert (found.lease.job_id, decode(type(job), found.payload)) == (put, read)
