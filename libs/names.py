"""The only parser and maker of resource names. Source: AIP-122."""

import re
from dataclasses import dataclass

from libs.errors import ForeignName, InvalidArgument, Violation
from libs.principal import User


@dataclass(frozen=True, slots=True)
class Pattern:
    """A resource name pattern, e.g. `organizations/{organization}/users/{user}`."""

    template: str

    def parse(self, name: str, *, field: str = "name") -> dict[str, str]:
        """The ids in *name* by variable. Raises InvalidArgument when it is not of this pattern."""
        expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[0-9A-Za-z_-]{1,60})", self.template)
        found = re.fullmatch(expression, name)
        if found is None:
            raise InvalidArgument(
                f"{field} has to be of the form {self.template}.",
                violations=[Violation(field, f"has to be of the form {self.template}")],
                field=field,
                form=self.template,
            )
        return found.groupdict()

    def format(self, **ids: str) -> str:
        """The name with these ids."""
        return self.template.format(**ids)


ORGANIZATION = Pattern("organizations/{organization}")
USER = Pattern("organizations/{organization}/users/{user}")
SESSION = Pattern("organizations/{organization}/users/{user}/sessions/{session}")
FILE = Pattern("organizations/{organization}/users/{user}/files/{file}")
EVENT = Pattern("organizations/{organization}/users/{user}/events/{event}")
BACKUP = Pattern("backups/{backup}")
DRILL = Pattern("drills/{drill}")
JOB = Pattern("jobs/{job}")
QUEUE = Pattern("services/{service}/queues/{queue}")


def own(pattern: Pattern, name: str, caller: User, *, field: str = "name") -> dict[str, str]:
    """The ids in *name*, which must lie under the caller's own user.

    Raises ForeignName before any query when it does not, so that nobody learns whether it exists (AIP-211).
    """
    ids = pattern.parse(name, field=field)
    if (ids["organization"], ids["user"]) != (caller.organization_id, caller.user_id):
        raise ForeignName("The name belongs to another organization or user than the caller's.", field=field)
    return ids
