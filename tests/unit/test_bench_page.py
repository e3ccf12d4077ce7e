"""The page of the benchmarks: what was not run stays, what was run is replaced, pictures are whole."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as bench
from tests.bench.picture import chart, short
from tests.bench.row import judged, reported

CURVES = {"ours": [(1_000.0, 10.0), (1_000_000.0, 12.5)], "a <peer>": [(1_000.0, 3.0), (1_000_000.0, 0.0)]}
PICTURE = ("p3-depth.svg", chart("Drain", "jobs waiting", "jobs/s", CURVES))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with rows of P3 and P10 and one picture each."""
    made = tmp_path / "BENCHMARKS.md"
    made.write_text(
        "# Benchmarks\n\n| id | what |\n|---|---|\n| P3 | old |\n| P10 | kept |\n\n![P3: old](old.svg)\n\n"
        "![P10: kept](kept.svg)\n"
    )
    monkeypatch.setattr(bench, "PAGE", made)
    monkeypatch.setattr(bench, "PICTURES", tmp_path / "pictures")
    return made


def test_a_run_of_some_benchmarks_replaces_their_rows_and_keeps_those_of_the_others(page: Path) -> None:
    bench.write([reported(id_="P3", metric="new", unit="jobs/s", ours=[1.0], beside="a peer", picture=PICTURE)])
    text = page.read_text()
    assert "| old |" not in text
    assert "old.svg" not in text
    assert "| P3 | new |" in text
    assert "| P10 | kept |" in text
    assert text.index("| P3 |") < text.index("| P10 |")
    assert text.index("![P3: new](tests/bench/pictures/p3-depth.svg)") < text.index("![P10: kept](kept.svg)")
    assert text.count("# Benchmarks") == text.count("| id |") == 1
    assert (page.parent / "pictures" / "p3-depth.svg").read_text() == PICTURE[1]


def test_writing_the_page_twice_changes_nothing(page: Path) -> None:
    taken = [reported(id_="P3", metric="new", unit="s", ours=[1.0], beside="a peer", picture=PICTURE)]
    bench.write(taken)
    once = page.read_text()
    bench.write(taken)
    assert page.read_text() == once


def test_a_reported_row_holds_without_a_bar_and_a_judged_one_may_fall_short() -> None:
    free = reported(id_="P3", metric="m", unit="s", ours=[3.0], beside="b", theirs=[2.0])
    short_of = judged("≥ 5", id_="P3", metric="m", unit="s", ours=[3.0], beside="b", theirs=[2.0])
    assert (free.bar, free.holds, free.ratio) == ("", True, 1.5)
    assert not short_of.holds
    assert "reported" in bench.line(free)
    assert "FALLS SHORT" in bench.line(short_of)


def test_a_chart_is_an_svg_with_a_curve_and_a_name_for_each_peer() -> None:
    drawn = ElementTree.fromstring(PICTURE[1])
    tag = "{http://www.w3.org/2000/svg}"
    lines = [line.attrib["points"].split() for line in drawn.iter(f"{tag}polyline")]
    words = [text.text for text in drawn.iter(f"{tag}text")]
    assert [len(points) for points in lines] == [2, 2]
    assert {"ours", "a <peer>", "1k", "1M", "jobs waiting"} <= set(words)
    assert all(80 <= float(point.split(",")[0]) <= 720 for points in lines for point in points)


@pytest.mark.parametrize(("number", "told"), [(0, "0"), (999, "999"), (1_000, "1k"), (250_000, "250k"), (1e6, "1M")])
def test_large_numbers_are_told_short(number: float, told: str) -> None:
    assert short(number) == told
