"""The ledger as rows: ``ledger.csv``, ``ledger.parquet`` and the lines on the terminal.

One row per entry, with the columns of `SCHEMA`. Regenerating them gives the same bytes.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.claim import Arm, Claim, PublishedEffect
from stages.ledger.entries import Entry, Ledger, published_effect
from stages.ledger.verdict import LEVEL
from stages.measurement import Measurement
from stages.storage import write_atomically

_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int64()
SCHEMA = pa.schema(
    [
        ("paper", _TEXT),
        ("claim", _TEXT),
        ("statement", _TEXT),
        ("source", _TEXT),
        ("with_it", _TEXT),  # the arms' names
        ("without", _TEXT),
        ("metric", _TEXT),  # effects are metric(without) - metric(with_it): points, or epochs
        ("expects", _TEXT),  # improves | equivalent
        ("margin", _NUMBER),
        ("published", _NUMBER),
        ("published_printed", _TEXT),  # the paper's words, where it prints no plain number
        ("published_on", _TEXT),  # data set, split, protocol
        ("published_source", _TEXT),
        ("logged", _NUMBER),  # from the authors' logs
        ("logged_source", _TEXT),
        ("profile", _TEXT),
        ("dataset", _TEXT),
        ("dataset_digest", _TEXT),
        ("num_classes", _COUNT),
        ("rates_searched", pa.bool_()),  # whether each arm has its own learning rate
        ("protocol_with_it", _TEXT),
        ("protocol_without", _TEXT),
        ("error_with_it", _NUMBER),  # mean over the runs, of single networks
        ("error_without", _NUMBER),
        ("effect", _NUMBER),
        ("ci_low", _NUMBER),  # 95 %, t over pairs of runs; null for one pair
        ("ci_high", _NUMBER),
        ("sd", _NUMBER),  # of the pairs' differences
        ("pairs", _COUNT),
        ("runs", _COUNT),  # per arm
        ("pairs_wanted", _COUNT),
        (
            "runs_needed",
            _COUNT,
        ),  # per arm, to decide the published effect here; null: unknown, or too many
        ("n_images", _COUNT),
        ("images_low", _NUMBER),  # 95 %, bootstrap over seeds and images
        ("images_high", _NUMBER),
        ("mcnemar_p", pa.list_(_NUMBER)),  # exact, one per pair
        ("p", _NUMBER),
        ("p_holm", _NUMBER),
        ("verdict", _TEXT),
        ("reason", _TEXT),
        ("seeds", pa.list_(_COUNT)),
        ("runs_with_it", pa.list_(_TEXT)),
        ("runs_without", pa.list_(_TEXT)),
        ("urls", pa.list_(_TEXT)),
        ("code_versions", pa.list_(_TEXT)),
        ("command", _TEXT),
    ]
)


def write_ledger(ledger: Ledger, csv_path: Path, parquet_path: Path) -> None:
    """Write both tables, each atomically. In the CSV, unknowns are empty and lists are joined by spaces."""
    rows = [_row(entry) for entry in ledger.entries]
    text = io.StringIO()
    table = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(
            {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
        )
    write_atomically(csv_path, text.getvalue())
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), stream)
    write_atomically(parquet_path, stream.getvalue().to_pybytes())


def lines(ledger: Ledger) -> list[str]:
    """One line per entry below a header, then the summary."""
    rows = [("claim", "where", "published", "log", "measured", "95 % interval", "pairs", "verdict")]
    for entry in ledger.entries:
        effect, conditions = entry.effect, entry.conditions
        rows.append(
            (
                entry.claim.key,
                conditions.label if conditions else "",
                _number(published_effect(entry.claim, logged=False)),
                _number(published_effect(entry.claim, logged=True)),
                f"{effect.value:+.2f}" if effect else "",
                f"{effect.low:+.2f} to {effect.high:+.2f}" if effect and effect.pairs > 1 else "",
                str(effect.pairs) if effect else "",
                entry.verdict + (f": {entry.reason}" if entry.reason else ""),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [*table, "", summary(ledger)]


def summary(ledger: Ledger) -> str:
    """How many entries have each verdict, and how many stay decided after Holm's correction."""
    counts = Counter(entry.verdict for entry in ledger.entries)
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))
    decided = [e for e in ledger.entries if e.verdict in ("confirmed", "contradicted")]
    still_decided = sum(entry.p_holm is not None and entry.p_holm < LEVEL for entry in decided)
    claims = len({entry.claim.key for entry in ledger.entries})
    text = f"{claims} claims: {verdicts}."
    if decided:
        text += (
            f" Corrected for all tests (Holm), {still_decided} of {len(decided)} remain decided."
        )
    return text


def _number(effect: PublishedEffect | None) -> str:
    if effect is None:
        return ""
    return effect.printed or f"{effect.value:+g}"


def _row(entry: Entry) -> dict[str, Any]:
    return _claim_columns(entry) | _published_columns(entry.claim) | _measured_columns(entry)


def _claim_columns(entry: Entry) -> dict[str, Any]:
    """The claim, the verdict on it, and the runs that this rests on."""
    claim, images = entry.claim, entry.images
    runs = (*entry.with_it, *entry.without)
    return {
        "paper": claim.paper,
        "claim": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "with_it": _name(claim.with_it),
        "without": _name(claim.without),
        "metric": claim.metric,
        "expects": claim.expects,
        "margin": claim.margin if claim.expects == "equivalent" else None,
        "pairs_wanted": claim.seeds,
        "runs_needed": entry.runs_needed,
        "p": entry.p,
        "p_holm": entry.p_holm,
        "verdict": entry.verdict,
        "reason": entry.reason,
        "seeds": [m.seed for m in entry.with_it],
        "runs_with_it": [m.run_name for m in entry.with_it],
        "runs_without": [m.run_name for m in entry.without],
        "urls": [m.url for m in runs if m.url],
        "code_versions": sorted({m.code_version for m in runs}),
        "mcnemar_p": list(images.mcnemar) if images else [],
        "command": entry.command,
    }


def _published_columns(claim: Claim) -> dict[str, Any]:
    published = published_effect(claim, logged=False)
    logged = published_effect(claim, logged=True)
    row: dict[str, Any] = {}
    if published:
        row |= {
            "published": published.value,
            "published_printed": published.printed,
            "published_on": f"{published.dataset}, {published.protocol}",
            "published_source": published.source,
        }
    if logged:
        row |= {"logged": logged.value, "logged_source": logged.source}
    return row


def _measured_columns(entry: Entry) -> dict[str, Any]:
    """The conditions of the runs and what they measured; empty if there were none."""
    conditions, effect, images = entry.conditions, entry.effect, entry.images
    row: dict[str, Any] = {}
    if conditions:
        row |= {
            "profile": conditions.profile,
            "dataset": conditions.dataset,
            "dataset_digest": conditions.dataset_digest,
            "num_classes": conditions.num_classes,
            "n_images": conditions.n,
            "rates_searched": conditions.searched,
            "protocol_with_it": entry.with_it[0].protocol,
            "protocol_without": entry.without[0].protocol,
            "error_with_it": _mean(entry.with_it),
            "error_without": _mean(entry.without),
        }
    if effect:
        row |= {
            "effect": effect.value,
            "ci_low": _finite(effect.low),
            "ci_high": _finite(effect.high),
            "sd": _finite(effect.sd),
            "pairs": effect.pairs,
            "runs": len(entry.with_it),
        }
    if images:
        row |= {"images_low": images.low, "images_high": images.high}
    return row


def _name(arm: Arm | None) -> str:
    return arm.name if arm else ""


def _mean(measurements: Sequence[Measurement]) -> float:
    return mean(m.value for m in measurements)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
