"""What psycopg is told of a login."""

import pytest

from libs.db.settings import Limits, arguments
from tests.support.postgres import Login, Password


@pytest.mark.parametrize(("host", "bound"), [("db.internal", True), ("/run/pg", False)])
def test_a_database_host_that_vanished_is_noticed_before_a_worker_on_it_is_taken_for_dead(
    host: str, bound: bool
) -> None:
    """TCP alone waits for a quarter of an hour for a host that says nothing; a socket on this machine cannot."""
    login = Login(
        service="files",
        database_host=host,
        database_port=5432,
        database_name="holdfast",
        database_user="holdfast_files",
        database_password=Password(b"x"),
    )
    told = arguments(login, Limits())
    silence = told.get("keepalives_idle", 0) + told.get("tcp_user_timeout", 0) / 1000
    assert (0 < silence <= 30) == bound
