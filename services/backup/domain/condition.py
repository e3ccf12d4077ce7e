"""What stands wrong, for as long as it does: told to operators, metrics and the log when it begins and when it ends."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from services.backup.domain.reading import Document


class Severity(Enum):
    """CRITICAL: the promise of recovery is broken or will be. WARNING: it will be if nobody looks for days."""

    CRITICAL = "critical"
    WARNING = "warning"


class Name(Enum):
    """Every condition there is; also the label of its metric."""

    RPO_BROKEN = "rpo_broken"
    DATA_PAST_CEILING = "data_past_ceiling"
    LAST_GOOD_PAST_CEILING = "last_good_past_ceiling"
    REPOSITORY_UNREADABLE = "repository_unreadable"
    REPOSITORY_DAMAGED = "repository_damaged"
    REPOSITORY_EMPTIED = "repository_emptied"
    BACKUP_FAILING = "backup_failing"
    EXPIRE_FAILING = "expire_failing"
    VERIFY_FAILING = "verify_failing"
    STANZA_FAILING = "stanza_failing"


@dataclass(frozen=True, slots=True)
class Condition(Document):
    """text: what is wrong, remedy: what to do, one sentence each. since: when it began."""

    name: Name
    severity: Severity
    text: str
    remedy: str
    since: datetime
