"""Finding files: one by id or path, many by prefix."""

from dataclasses import dataclass

from libs.page import Tokens, size
from libs.principal import User
from services.files.domain.errors import FileNotFound
from services.files.domain.file import File
from services.files.ops.upload import Begin
from services.files.store import files


@dataclass(frozen=True, slots=True)
class Page:
    """Files in the order of their paths by code point; next_token is "" on the last page."""

    files: list[File]
    next_token: str


class Find:
    """The verbs that only look."""

    def __init__(self, begin: Begin, tokens: Tokens) -> None:
        self._begin, self._tokens = begin, tokens

    async def by_id(self, who: User, file_id: str) -> File:
        """The file with this id. Raises FileNotFound."""
        async with self._begin(who) as tx:
            return _found(await files.by_id(tx, file_id))

    async def by_path(self, who: User, path: str) -> File:
        """The file at this path. Raises FileNotFound."""
        async with self._begin(who) as tx:
            return _found(await files.by_path(tx, path))

    async def page(self, who: User, *, prefix: str, page_size: int, page_token: str) -> Page:
        """One page of the caller's files whose path begins with *prefix*. Raises PageTokenInvalid."""
        limit = size(page_size)
        bound = {"list": "files", "organization": who.organization_id, "user": who.user_id, "prefix": prefix}
        position = self._tokens.open(page_token, **bound)
        async with self._begin(who) as tx:
            rows = await files.page(tx, prefix=prefix, after=str(position[0]) if position else "", limit=limit + 1)
        more = len(rows) > limit
        shown = rows[:limit]
        return Page(shown, self._tokens.seal((shown[-1].path,), **bound) if more else "")


def _found(file: File | None) -> File:
    if file is None:
        raise FileNotFound("There is no such file.")
    return file
