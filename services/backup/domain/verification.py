"""What reading a whole repository again has shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verification:
    """segments, backups, files: how many were read. faults: what is wrong, each in one sentence; none is the proof.

    leftovers: labels of backups that were broken off and that the repository does not list.
    """

    segments: int
    backups: int
    files: int
    faults: tuple[str, ...]
    leftovers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything was read and nothing was wrong."""
        return not self.faults
