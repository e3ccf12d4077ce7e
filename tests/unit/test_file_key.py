"""Object keys begin with the caller's user id, compared as a whole segment."""

import pytest

from libs.ids import new_id
from services.files.domain.errors import ForeignObject
from services.files.domain.key import object_key, owned

USER, OBJECT, VERSION = new_id(), new_id(), new_id()


@pytest.mark.control("T7", "a key whose first segment is not the caller's id is refused in the storage layer")
def test_a_key_of_another_user_is_refused_and_the_own_one_is_not() -> None:
    key = object_key(USER, OBJECT, VERSION)
    assert owned(key, USER) == key == f"{USER}/{OBJECT}/{VERSION}"
    with pytest.raises(ForeignObject):
        owned(key, new_id())


@pytest.mark.parametrize(
    "key",
    [
        "",
        USER,
        f"{USER}/{OBJECT}",
        f"/{USER}/{OBJECT}/{VERSION}",
        f"{USER}//{VERSION}",
        f"{USER}/{OBJECT}/{VERSION}/",
        f"{USER}/{OBJECT}/{VERSION}/x",
        f"{USER}x/{OBJECT}/{VERSION}",
        f"{USER[:-1]}/{OBJECT}/{VERSION}",
        f"{USER.upper()}/{OBJECT}/{VERSION}",
        f"other/../{USER}",
        f"{USER}/../other",
        f"{USER}/{OBJECT}/..",
        f"{USER}/{OBJECT}\n/{VERSION}",
        f"{USER}/{OBJECT}/{VERSION}?versionId=1",
        f"{USER}%2f{OBJECT}/{OBJECT}/{VERSION}",
        f"{USER} /{OBJECT}/{VERSION}",
    ],
)
def test_a_key_that_is_not_three_ids_of_the_caller_is_refused(key: str) -> None:
    with pytest.raises(ForeignObject):
        owned(key, USER)


@pytest.mark.parametrize("part", ["", "..", "a/b", "a\n", "A", "x" * 41, "é"])
def test_a_key_is_never_made_of_what_is_not_an_id(part: str) -> None:
    for parts in ((part, OBJECT, VERSION), (USER, part, VERSION), (USER, OBJECT, part)):
        with pytest.raises(ForeignObject):
            object_key(*parts)
