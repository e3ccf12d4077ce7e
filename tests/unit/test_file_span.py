"""Which bytes a range means. The cases are those of RFC 9110 section 14.1.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.files.domain.errors import RangeNotSatisfiable
from services.files.domain.span import Span, from_header, slice_of


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 500),
        ("bytes=-500", 9500, 500),
        ("bytes=9500-", 9500, 500),
        ("bytes=0-0", 0, 1),
        ("bytes=-1", 9999, 1),
        ("bytes=0-", 0, 10000),
        ("bytes=0-99999", 0, 10000),
        ("bytes=-99999", 0, 10000),
        ("Bytes=1-2", 1, 2),
    ],
)
def test_a_single_range_gives_exactly_its_bytes(header: str, start: int, length: int) -> None:
    assert from_header(header, 10000) == Span(start, length, ranged=True)


@pytest.mark.parametrize(
    "header", ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "0-1"]
)
def test_what_is_no_single_byte_range_gives_the_whole(header: str) -> None:
    assert from_header(header, 10000) is None


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0"])
def test_a_range_without_a_byte_is_not_satisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        from_header(header, 10000)
    assert refused.value.facts == {"size_bytes": "10000"}


def test_no_range_of_an_empty_file_is_satisfiable_but_its_whole_is() -> None:
    with pytest.raises(RangeNotSatisfiable):
        from_header("bytes=0-", 0)
    assert slice_of(0, offset=0, length=0) == Span(0, 0)


@given(size=st.integers(0, 50), offset=st.integers(0, 60), length=st.integers(0, 60))
def test_a_slice_is_what_python_would_cut(size: int, offset: int, length: int) -> None:
    content = bytes(range(size))
    if offset and offset >= size:
        with pytest.raises(RangeNotSatisfiable):
            slice_of(size, offset=offset, length=length)
        return
    span = slice_of(size, offset=offset, length=length)
    assert content[span.start : span.start + span.length] == content[offset : offset + length if length else None]
