"""Who acts. `libs.db` arms row-level security from it; nothing else decides what a transaction can see."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """One person in one organization, as a verified user token or a job's ids name them.

    session_id is empty for jobs and exchanged tokens; role is MEMBER, ADMIN or OWNER; actor is the acting service.
    """

    organization_id: str
    user_id: str
    session_id: str = ""
    role: str = "MEMBER"
    scopes: frozenset[str] = field(default_factory=frozenset)
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization as a whole: its own rows, not those of its users."""

    organization_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """A person across organizations, known before any organization is entered: sees that person's users only."""

    account_id: str


@dataclass(frozen=True, slots=True)
class System:
    """A service on its own behalf: sees service-scope rows, no tenant's rows."""

    service: str


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who runs the installation, by the local socket (`uid:1000`) or an account id."""

    operator_id: str


Principal = User | Organization | Account | System | Operator
