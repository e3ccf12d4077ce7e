"""Paths: any language in one spelling, and no trick gets through."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.files.domain import path
from services.files.domain.errors import PathInvalid

TRICKS = [
    "",
    ".",
    "..",
    "/",
    "/a",
    "a/",
    "a//b",
    "a/./b",
    "a/../b",
    "../a",
    "a/..",
    "a\\b",
    "..\\a",
    "a\0b",
    "a\nb",
    "a\r\nx: y",
    "a\x1bb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "a\ud800b",
    "x" * 1025,
    "한" * 342,
]


@pytest.mark.control("F1", "names of any language")
@pytest.mark.parametrize(
    "name",
    [
        "보고서/2026년 결산.pdf",
        "отчёт.txt",
        "تقرير.txt",
        "报告/最终.txt",
        "a b/ç.txt",
        "👩‍💻.md",
        "...",
        "a/.b",
        "%2e%2e/x",
    ],
)
def test_a_name_of_any_language_is_a_path(name: str) -> None:
    assert path.parse(name) == unicodedata.normalize("NFC", name)


def test_two_spellings_of_one_name_are_one_path() -> None:
    assert path.parse(unicodedata.normalize("NFD", "보고서/é.txt")) == path.parse("보고서/é.txt")


@pytest.mark.parametrize("name", TRICKS)
def test_a_path_trick_is_refused(name: str) -> None:
    with pytest.raises(PathInvalid):
        path.parse(name)


def test_the_longest_path_is_1024_bytes() -> None:
    assert path.parse("한" * 341 + "x") == "한" * 341 + "x"
    with pytest.raises(PathInvalid):
        path.parse("한" * 341 + "xy")


def test_a_request_target_is_decoded_once_and_only_once() -> None:
    assert path.from_target(b"%EB%B3%B4%EA%B3%A0%EC%84%9C/a%20b") == "보고서/a b"
    assert path.from_target(b"%252e%252e/a") == "%2e%2e/a"


@pytest.mark.parametrize(
    "raw",
    [b"%2e%2e/a", b"a/%2e%2e/b", b"a%2F%2Fb", b"%5c", b"a%00b", b"a%0d%0ab", b"%ff", b"%", b"%zz", b"%e", b"%C0%AE"],
)
def test_an_encoded_path_trick_is_refused(raw: bytes) -> None:
    with pytest.raises(PathInvalid):
        path.from_target(raw)


@given(st.text(max_size=80))
def test_what_is_accepted_has_no_way_out(text: str) -> None:
    try:
        parsed = path.parse(text)
    except PathInvalid:
        return
    assert all(segment not in ("", ".", "..") for segment in parsed.split("/"))
    assert not set(parsed) & set("\\\0\r\n")
    assert path.parse(parsed) == parsed
    assert len(parsed.encode()) <= 1024
