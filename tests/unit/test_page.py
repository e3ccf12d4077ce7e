"""Page sizes and page tokens."""

import base64

import pytest

from libs import page
from libs.errors import InvalidArgument

KEY = bytes(range(32))


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (50, 50), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_size_is_given_as_asked_up_to_a_thousand_and_fifty_when_not_asked(asked: int, given: int) -> None:
    assert page.size(asked) == given


def test_a_negative_page_size_is_refused_as_a_field_violation() -> None:
    with pytest.raises(InvalidArgument) as refused:
        page.size(-1)
    assert [violation.field for violation in refused.value.violations] == ["page_size"]


def test_a_token_leads_back_to_its_position_and_no_token_to_the_first_page() -> None:
    tokens = page.Tokens(KEY)
    token = tokens.seal(["2026-11-22T00:00:00Z", 7, "한글"], parent="organizations/a/users/b", filter="")
    assert tokens.open(token, filter="", parent="organizations/a/users/b") == ("2026-11-22T00:00:00Z", 7, "한글")
    assert tokens.open("", parent="anything") == ()


@pytest.mark.parametrize(
    "arguments", [{"parent": "organizations/a/users/c"}, {}, {"parent": "organizations/a/users/b", "x": 1}]
)
def test_a_token_is_refused_with_other_arguments(arguments: dict[str, object]) -> None:
    tokens = page.Tokens(KEY)
    token = tokens.seal(["a"], parent="organizations/a/users/b")
    assert tokens.open(token, parent="organizations/a/users/b") == ("a",)
    with pytest.raises(page.PageTokenInvalid) as refused:
        tokens.open(token, **arguments)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


def test_a_token_with_any_bit_changed_is_refused() -> None:
    tokens = page.Tokens(KEY)
    raw = bytearray(base64.urlsafe_b64decode(tokens.seal(["abc"], parent="p") + "=="))
    for at in range(len(raw)):
        for bit in range(8):
            raw[at] ^= 1 << bit
            with pytest.raises(page.PageTokenInvalid):
                tokens.open(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode(), parent="p")
            raw[at] ^= 1 << bit
    assert tokens.open(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode(), parent="p") == ("abc",)


def test_a_token_under_another_key_is_refused() -> None:
    token = page.Tokens(KEY).seal(["a"], parent="p")
    with pytest.raises(page.PageTokenInvalid):
        page.Tokens(bytes(32)).open(token, parent="p")


@pytest.mark.parametrize("junk", ["x", "=", "%%%%", "é" * 10, "A" * 5000, "AAAA", "A" * 64, "\x00", "a b"])
def test_what_is_no_token_at_all_is_refused_and_breaks_nothing(junk: str) -> None:
    with pytest.raises(page.PageTokenInvalid):
        page.Tokens(KEY).open(junk, parent="p")
