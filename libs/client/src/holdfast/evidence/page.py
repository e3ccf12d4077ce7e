"""Evidence as one page for customers: everything in it is in the signed records, which it carries with it."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from holdfast.evidence.chain import Record
from holdfast.evidence.export import Summary
from holdfast.evidence.picture import Point, history

_FIGURES = (
    (
        "rpo_ms", "Data at risk (RPO)", "What a loss at the restored moment would have cost, measured by each drill.",
        15 * 60_000, "15 minutes promised",
    ),
    (
        "rto_ms", "Time to restore (RTO)", "From the request to a copy that was checked, measured by each drill.",
        4 * 3_600_000, "4 hours promised",
    ),
)  # fmt: skip
_SHOWN = 60
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:currentColor}
.grid{stroke:currentColor;stroke-opacity:.15}line.limit{stroke:#b35900;stroke-dasharray:6 4}text.limit{fill:#b35900}
.good{fill:#1a7f37}path.bad{stroke:#cf222e;stroke-width:2.5;fill:none}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0}
td,th{border-bottom:1px solid #8884;vertical-align:top}.failed{color:#cf222e;font-weight:600}
code{overflow-wrap:anywhere}.scroll{overflow-x:auto}
"""


def page(summary: Summary, export: bytes, *, title: str) -> str:
    """The page of an export that was verified as *summary*. export: its bytes, without internals."""
    drills = [record for record in summary.records if record.kind == "drill"]
    pictures = "".join(
        f"<h2>{escape(name)}</h2><p>{escape(words)}</p>"
        + history([*_points(drills, figure), *_broken(summary, figure)], title=name, limit=(most, limit))
        for figure, name, words, most, limit in _FIGURES
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"{_verdict(summary)}{pictures}{_drills(drills)}{_kinds(summary)}{_proof(summary, export)}</body></html>\n"
    )


def moment(text: Any) -> datetime | None:
    """An RFC 3339 moment of a record, None when it is none."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else None


def duration(milliseconds: Any) -> str:
    """Milliseconds for a person, e.g. "1.2 s"; "–" for none."""
    if not isinstance(milliseconds, int):
        return "–"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _points(drills: Iterable[Record], figure: str) -> list[Point]:
    found = []
    for record in drills:
        at = moment(record.facts.get("ended_at")) or moment(record.at)
        value, good = record.facts.get(figure), record.facts.get("outcome") == "succeeded"
        if at is not None and (isinstance(value, int) or not good):
            note = f"{at:%Y-%m-%d %H:%M} UTC: {duration(value) if isinstance(value, int) else 'failed'}"
            found.append(Point(at, value if isinstance(value, int) else None, good, note))
    return found


def _broken(summary: Summary, figure: str) -> list[Point]:
    """Times when no promise of RPO held, for the picture of it."""
    broken = [record for record in summary.records if record.kind == "rpo_breach" and figure == "rpo_ms"]
    found = [(record, moment(record.facts.get("found_at")) or moment(record.at)) for record in broken]
    return [Point(at, None, False, f"{at:%Y-%m-%d %H:%M} UTC: archived changes were lost") for _, at in found if at]


def _verdict(summary: Summary) -> str:
    last, since = summary.last_good_drill, len(summary.failures_since)
    if last is None:
        told = "No restore drill has succeeded yet."
    else:
        told = f"The newest restore drill that succeeded ended at {_when(last)} (record {last.sequence})."
    failed = "<p>No failure was recorded since.</p>"
    if since:
        failed = f'<p class="failed">Failures recorded since: {since}.</p>'
    return (
        f"<p>{escape(told)}</p>{failed}<p>Exported {escape(summary.exported_at)}: {summary.count} records,"
        " signed, and chained so that none can be changed, left out or added.</p>"
    )


def _when(record: Record) -> str:
    at = moment(record.facts.get("ended_at")) or moment(record.at)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else record.at


def _drills(drills: Sequence[Record]) -> str:
    rows = []
    for record in reversed(drills[-_SHOWN:]):
        checks = record.facts.get("checks")
        made = [one for one in checks if isinstance(one, dict)] if isinstance(checks, list) else []
        passed = sum(one.get("verdict") == "ok" for one in made)
        kind, outcome = str(record.facts.get("type", "")), _outcome(record.facts)
        rpo, rto = duration(record.facts.get("rpo_ms")), duration(record.facts.get("rto_ms"))
        figures = (rpo, _objects(record.facts), rto)
        cells = (str(record.sequence), _when(record), kind, outcome, *figures, f"{passed} of {len(made)}")
        rows.append(_row("td", cells))
    head = _row("th", ("record", "ended", "kind", "outcome", "RPO", "RPO of files", "RTO", "checks passed"))
    older = f"<p>The newest {_SHOWN} of {len(drills)}.</p>" if len(drills) > _SHOWN else ""
    return f'<h2>Restore drills</h2>{older}<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _objects(facts: Mapping[str, Any]) -> str:
    """What a restore would have lacked of the files' bytes, and by how many of them; "–" when it is not known."""
    lost, sampled = facts.get("objects_rpo_ms"), facts.get("objects_sampled")
    return f"{duration(lost)} ({sampled} sampled)" if isinstance(lost, int) and isinstance(sampled, int) else "–"


def _kinds(summary: Summary) -> str:
    rows = []
    for kind in sorted(summary.kinds):
        of_kind = [record.facts for record in summary.records if record.kind == kind]
        failed = sum(facts.get("outcome") == "failed" for facts in of_kind)
        rows.append(_row("td", (kind.replace("_", " "), str(len(of_kind)), str(failed))))
    return f"<h2>All records</h2><table>{_row('th', ('kind', 'records', 'failed'))}{''.join(rows)}</table>"


def _outcome(facts: Mapping[str, Any]) -> str:
    reason = str(facts.get("reason") or "")
    return f"{facts.get('outcome', '')} ({reason})" if reason else str(facts.get("outcome", ""))


def _row(cell: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in cells) + "</tr>"


def _proof(summary: Summary, export: bytes) -> str:
    link = f"data:application/jsonl;base64,{base64.b64encode(export).decode()}"
    return (
        "<h2>Check it yourself</h2><p>This page only shows the records. Take them from here:"
        f' <a download="evidence.jsonl" href="{link}">evidence.jsonl</a>, ask for the public key by another way than'
        " this page, and run <code>holdfast evidence verify evidence.jsonl --key KEY</code>: no network is needed.</p>"
        f"<p>Last record: <code>{escape(summary.head)}</code>"
        f"<br>Signed with key: <code>{escape(summary.key)}</code></p>"
    )
