"""The closed list: everything a service's login may touch outside its own schema (T5). The catalogue is compared with
it.

An entry is (kind, name, privilege): kind is table or function; a function's name carries no arguments.
"""

SERVICES = ("auth", "files", "events", "backup")

Grant = tuple[str, str, str]

_DML = ("SELECT", "INSERT", "UPDATE", "DELETE")
_ADD_AND_DROP = ("SELECT", "INSERT", "DELETE")
_OWN_QUEUE_ROWS: set[Grant] = {
    *(("table", f"jobs.{table}", privilege) for table in ("ready", "lanes", "jobs", "workers") for privilege in _DML),
    ("table", "jobs.history", "SELECT"),
    ("table", "jobs.history", "INSERT"),
    *(("table", f"jobs.{table}", privilege) for table in ("ticks", "inbox") for privilege in _ADD_AND_DROP),
    ("table", "jobs.queues", "SELECT"),
    ("function", "jobs.may_run", "EXECUTE"),
    ("function", "jobs.rotate", "EXECUTE"),
    ("function", "jobs.figures", "EXECUTE"),
}
_ALL_JOBS: set[Grant] = {
    ("function", f"jobs.{name}", "EXECUTE")
    for name in (
        *("list_jobs", "get_job", "retry_job", "retry_page", "cancel_job", "pause_queue", "resume_queue"),
        *("queue_figures", "guard_told", "hold", "accept_timeline", "open_guard", "quarantine", "sweep_ready"),
        "release_page",
    )
}
"""Every service's jobs, for the operators' plane: functions of the owner that each do one thing."""
_AUDIT: set[Grant] = {("table", "audit.entries", "INSERT")}
_PUBLISHERS = ("auth", "files", "backup")


def runtime_role(service: str) -> str:
    """The login a service runs as."""
    return f"holdfast_{service}"


def closed(service: str) -> frozenset[Grant]:
    """Every grant *service* may hold outside its own schema; whatever else the catalogue shows is a fault."""
    found = _OWN_QUEUE_ROWS | _AUDIT
    if service in _PUBLISHERS:
        found |= {("function", "events.append", "EXECUTE")}
    if service == "backup":
        found |= _ALL_JOBS | {("function", "events.change_epoch_after_restore", "EXECUTE")}
        found |= {
            ("function", f"pg_catalog.{name}", "EXECUTE") for name in ("pg_switch_wal", "pg_ls_archive_statusdir")
        }
    return frozenset(found)
