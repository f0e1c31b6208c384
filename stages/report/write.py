"""The timeline, the ledger and the report, from measurements and the official record alone.

``timeline.csv`` has one row per figure, published or reproduced, with the columns of `COLUMNS`;
``timeline.svg`` and ``.png`` show it as a picture. ``ledger.csv`` and ``ledger.parquet`` have one row per
claim and conditions; ``forest-PAPER.svg`` and ``.png`` show the claims that were tested. ``index.html`` is
the report, which needs no other file and no network. The same figures give the same bytes.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup

from stages.ledger.entries import Entry, Ledger, published_effect
from stages.measurement import (
    Measurement,
    PublishedResult,
    Reproduction,
    reproductions,
)
from stages.metrics import IMAGENET, METRICS, Metric
from stages.paper import Paper
from stages.report.forest import draw_forest
from stages.report.style import PALETTE, minus, spelt
from stages.report.tables import summary, write_ledger
from stages.report.timeline import TOP5, draw_timeline
from stages.storage import write_atomically

COLUMNS = (
    "kind",  # published | reproduced
    "scope",  # imagenet, or the name of another benchmark; small-scale: comparable to nothing published
    "year",
    "role",  # winner, runner_up, ... of the record; single_model; reproduction
    "paper",
    "model",
    "team",
    "description",
    "metric",  # see stages.metrics.METRICS
    "value",  # in the metric's unit, mostly percent; the record's as printed
    "ci_low",  # 95 % interval
    "ci_high",
    "n",  # images
    "split",  # val | test
    "eval_set",
    "protocol",
    "nets",  # networks averaged
    "extra_data",  # yes | no
    "profile",
    "dataset",
    "dataset_digest",
    "num_classes",
    "seed",
    "recipe_id",
    "code_version",
    "finished_at",
    "deviations",  # joined by "; "
    "source",  # published figures only
    "status",  # published figures only: verified, verified-2nd, memory
    "run",
    "url",
    "not_imagenet_because",
)
_Row = TypeVar("_Row")
_NO_CLAIMS = Ledger()
_HEADLINES = ("winner", "winner_provided_data", "runner_up", "human")
_ROLES = {
    "winner": "winner",
    "winner_provided_data": "winner, provided data only",
    "runner_up": "runner-up",
    "notable": "other entry",
    "post_challenge": "after the challenge",
    "human": "human",
}


@dataclass(frozen=True)
class Report:
    """The paths of the files."""

    csv: Path
    svg: Path
    png: Path
    html: Path
    ledger_csv: Path
    ledger_parquet: Path


@dataclass(frozen=True)
class _Table:
    """Rows with figures of the same metrics, which therefore fit under one header.

    Attributes:
        metrics: the metrics of the columns.
        rows: the figures or reproductions to show.
    """

    metrics: tuple[Metric, ...]
    rows: tuple[Any, ...]

    @property
    def figures(self) -> str:
        """The content of the columns in words, e.g. "error in percent"."""
        first = self.metrics[0]
        return f"{first.quantity} in {'percent' if first.unit == '%' else first.unit}"


@dataclass(frozen=True)
class _Year:
    year: int
    headlines: tuple[PublishedResult, ...]
    further: tuple[PublishedResult, ...]
    papers: tuple[tuple[Paper, tuple[_Table, ...]], ...]
    reproduced: tuple[_Table, ...]


@dataclass(frozen=True)
class _Claims:
    """A paper's entries, tested and untested, and the picture of those tested."""

    paper: str
    tested: tuple[Entry, ...]
    untested: tuple[Entry, ...]
    forest: Markup | None


def write_report(
    measurements: Sequence[Measurement],
    published: Sequence[PublishedResult],
    out: Path,
    ledger: Ledger = _NO_CLAIMS,
    papers: Sequence[Paper] = (),
) -> Report:
    """Write the timeline, the ledger and the report into `out`, each file atomically.

    If two measurements have the same conditions and seed, the later counts. A run that only tests a claim
    is shown in the ledger and among all measurements, but not in the timeline, which shows what was
    published.
    """
    tests = [m for m in measurements if m.split == "val"]
    measured = reproductions(tests, papers)
    published_recipes = [m for m in tests if m.recipe_id not in ledger.recipe_ids]
    reproduced = reproductions(published_recipes, papers)
    svg, png = draw_timeline(published, reproduced)
    report = Report(
        csv=out / "timeline.csv",
        svg=out / "timeline.svg",
        png=out / "timeline.png",
        html=out / "index.html",
        ledger_csv=out / "ledger.csv",
        ledger_parquet=out / "ledger.parquet",
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(report.csv, _table(published, reproduced))
    write_atomically(report.svg, svg)
    write_atomically(report.png, png)
    write_ledger(ledger, report.ledger_csv, report.ledger_parquet)
    forests = _forests(ledger)
    for old in out.glob("forest-*"):
        if old.stem.removeprefix("forest-") not in forests:
            old.unlink()
    for paper, (forest_svg, forest_png) in forests.items():
        write_atomically(out / f"forest-{paper}.svg", forest_svg)
        write_atomically(out / f"forest-{paper}.png", forest_png)
    pictures = {paper: _inline(forest_svg.decode()) for paper, (forest_svg, _) in forests.items()}
    page = _page(published, papers, reproduced, measured, svg.decode(), ledger, pictures)
    write_atomically(report.html, page)
    return report


def _forests(ledger: Ledger) -> dict[str, tuple[bytes, bytes]]:
    tested: dict[str, list[Entry]] = {}
    for entry in ledger.entries:
        if entry.effect is not None:
            tested.setdefault(entry.claim.paper, []).append(entry)
    return {paper: draw_forest(paper, entries) for paper, entries in tested.items()}


def _claims(ledger: Ledger, forests: Mapping[str, Markup]) -> Iterator[_Claims]:
    for paper in dict.fromkeys(entry.claim.paper for entry in ledger.entries):
        entries = [entry for entry in ledger.entries if entry.claim.paper == paper]
        yield _Claims(
            paper,
            tested=tuple(entry for entry in entries if entry.effect is not None),
            untested=tuple(entry for entry in entries if entry.effect is None),
            forest=forests.get(paper),
        )


def _table(published: Sequence[PublishedResult], reproduced: Sequence[Reproduction]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in published:
        table.writerows(_published_rows(row))
    for reproduction in reproduced:
        reason = reproduction.not_comparable
        table.writerows(_reproduced_row(m, reason) for m in reproduction.measurements)
    return text.getvalue()


def _published_rows(row: PublishedResult) -> Iterator[dict[str, Any]]:
    common = {
        "kind": "published",
        "scope": "imagenet",
        "year": row.year,
        "paper": row.family,
        "model": row.model,
        "team": row.team,
        "extra_data": "yes" if row.extra_data else "no",
        "num_classes": IMAGENET.classes,
        "source": row.source,
        "status": row.status,
    }
    yield common | {
        "role": row.role,
        "description": row.method,
        "metric": "error_top5",
        "value": row.error_top5,
        "n": row.images,
        "split": "test",
        "eval_set": row.eval_set,
        "protocol": "as entered",
        "nets": row.nets,
    }
    challenge = row.eval_set.partition("-")[0]
    for single in row.single:
        figures: dict[str, str] = {
            "error_top1": single.error_top1,
            "error_top5": single.error_top5,
        }
        for metric, value in figures.items():
            if value:
                yield common | {
                    "role": "single_model",
                    "description": single.described,
                    "metric": metric,
                    "value": value,
                    "n": IMAGENET.items if single.split == "val" else row.images,
                    "split": single.split,
                    "eval_set": f"{challenge}-{single.split}",
                    "protocol": single.protocol or "as described",
                    "nets": "1",
                }


def _reproduced_row(m: Measurement, not_comparable: str) -> dict[str, Any]:
    return {
        "kind": "reproduced",
        "scope": _scope(m, not_comparable),
        "year": m.year,
        "role": "reproduction",
        "paper": m.paper,
        "model": m.model,
        "metric": m.metric,
        "value": m.value,
        "ci_low": m.ci_low,
        "ci_high": m.ci_high,
        "n": m.n,
        "split": m.split,
        "eval_set": f"{m.dataset} {m.split}",
        "protocol": m.protocol,
        "nets": m.nets,
        "extra_data": "no",
        "profile": m.profile,
        "dataset": m.dataset,
        "dataset_digest": m.dataset_digest,
        "num_classes": m.num_classes,
        "seed": m.seed,
        "recipe_id": m.recipe_id,
        "code_version": m.code_version,
        "finished_at": m.finished_at,
        "deviations": "; ".join(m.deviations),
        "run": m.run_name,
        "url": m.url,
        "not_imagenet_because": not_comparable,
    }


def _scope(m: Measurement, not_comparable: str) -> str:
    if not_comparable:
        return "small-scale"
    return "imagenet" if m.benchmark == IMAGENET.name else m.benchmark


def _page(
    published: Sequence[PublishedResult],
    papers: Sequence[Paper],
    reproduced: Sequence[Reproduction],
    measured: Sequence[Reproduction],
    svg: str,
    ledger: Ledger,
    forests: Mapping[str, Markup],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": "{:.2f}".format,
        "signed": _signed,
        "probability": lambda p: "< 0.001" if p < 0.001 else f"= {p:.3f}",
        "grouped": "{:,}".format,
        "spelt": spelt,
    }
    environment.tests["link"] = _is_link
    environment.globals |= {"published_effect": published_effect, "metrics": METRICS}
    return environment.get_template("report.html.jinja").render(
        palette=PALETTE,
        roles=_ROLES,
        imagenet=IMAGENET.name,
        picture=_inline(svg),
        reproduced=reproduced,
        measured=measured,
        claims=list(_claims(ledger, forests)),
        claims_summary=summary(ledger),
        years=[
            _year(year, published, papers, reproduced)
            for year in _years(published, papers, reproduced)
        ],
    )


def _years(
    published: Sequence[PublishedResult],
    papers: Sequence[Paper],
    reproduced: Sequence[Reproduction],
) -> list[int]:
    years = {row.year for row in published} | {paper.year for paper in papers}
    return sorted(years | {reproduction.any.year for reproduction in reproduced})


def _year(
    year: int,
    published: Sequence[PublishedResult],
    papers: Sequence[Paper],
    reproduced: Sequence[Reproduction],
) -> _Year:
    rows = [row for row in published if row.year == year]
    runs = [reproduction for reproduction in reproduced if reproduction.any.year == year]
    return _Year(
        year,
        headlines=tuple(row for row in rows if row.role in _HEADLINES),
        further=tuple(row for row in rows if row.role not in _HEADLINES),
        papers=tuple(
            (paper, _tables(paper.published, lambda figure: figure.figures))
            for paper in papers
            if paper.year == year
        ),
        reproduced=_tables(
            sorted(runs, key=lambda run: bool(run.not_comparable)), lambda run: run.metrics
        ),
    )


def _tables(rows: Iterable[_Row], metrics: Callable[[_Row], Iterable[str]]) -> tuple[_Table, ...]:
    """One table for each kind of figure, in the order in which the kinds first appear."""
    tables: dict[tuple[Metric, ...], list[_Row]] = {}
    for row in rows:
        tables.setdefault(_columns(metrics(row)), []).append(row)
    return tuple(_Table(columns, tuple(same)) for columns, same in tables.items() if columns)


def _columns(metrics: Iterable[str]) -> tuple[Metric, ...]:
    """The columns for `metrics`; the challenge's own comes first, and classifiers always have both."""
    names = set(metrics)
    classification = {TOP5, "error_top1"}
    wanted = names | classification if names & classification else names
    return tuple(sorted((METRICS[name] for name in wanted), key=lambda m: (-m.top, m.name)))


def _inline(svg: str) -> Markup:
    """The picture's element alone, in the page's colours, so that both turn dark together.

    Matplotlib escapes the texts; its comments, which repeat them, are removed.
    """
    element = re.sub(r"<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for name, (light, _) in PALETTE.items():
        element = element.replace(light, f"var(--{name})")
    return Markup(element)


def _signed(points: float) -> str:
    return minus(f"{points:+.2f}")


def _is_link(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
