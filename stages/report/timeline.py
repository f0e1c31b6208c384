"""The timeline as a picture: the record with its ImageNet reproductions, and other runs below it.

Drawn with matplotlib's objects, not pyplot, and from its arguments alone: the same figures give the same
bytes.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stages.measurement import Estimate, Measurement, PublishedResult, Reproduction
from stages.metrics import IMAGENET, METRICS
from stages.report.style import (
    BAND,
    HUMAN,
    INK,
    MUTED,
    PAPER,
    REPRODUCED,
    RULE,
    SMALL,
    WINNER,
    add_axes,
    bare,
    drawing,
    heading,
    marker,
    rendered,
    short,
    spelt,
)

# The challenge's own metric, the only one in this picture.
TOP5 = "error_top5"

# A year is a column one unit wide; within it, each kind of figure has its own lane.
_WINNER_LANE, _OTHER_LANE, _REPRODUCED_LANE, _NEXT_MODEL = -0.14, 0.1, 0.28, 0.13

_BARS = "95 % intervals (several seeds: mean and range)"

# Inches.
_WIDTH, _LEFT, _RIGHT = 9.0, 0.5, 8.3
_RECORD_TOP, _RECORD_HEIGHT, _STRIP_HEIGHT = 0.72, 4.2, 1.3
_ROW_HEIGHT, _SMALL_HEAD, _SMALL_FOOT = 0.3, 0.62, 0.5


def draw_timeline(
    published: Sequence[PublishedResult], reproduced: Sequence[Reproduction]
) -> tuple[bytes, bytes]:
    """The picture as (SVG, PNG), legible at 900 px wide.

    Only reproductions that count as ImageNet figures enter the record's panel; the others have panels of
    their own, one per data set, each with its chance level.
    """
    imagenet = [r for r in reproduced if _beside_the_record(r)]
    panels = _small_panels(reproduced)
    record_bottom = _RECORD_TOP + _RECORD_HEIGHT + _STRIP_HEIGHT
    heights = [_SMALL_HEAD + _ROW_HEIGHT * len(rows) + _SMALL_FOOT for rows in panels]
    height = record_bottom + 0.15 + sum(heights)

    with drawing("timeline"):
        figure = Figure(figsize=(_WIDTH, height), facecolor=PAPER)
        if imagenet:
            note = f"Reproduced on the validation set, with {_BARS}."
        elif reproduced:
            note = "Not reproduced at ImageNet scale yet."
        else:
            note = "Nothing has been reproduced yet. To begin: python -m pipeline.run --year 2012"
        record = add_axes(figure, _LEFT, _RECORD_TOP, _RIGHT, _RECORD_HEIGHT)
        _draw_record(record, published, imagenet, note)
        top = record_bottom + 0.1
        for rows, depth in zip(panels, heights, strict=True):
            inner = depth - _SMALL_HEAD - _SMALL_FOOT
            _draw_small(add_axes(figure, 2.4, top + _SMALL_HEAD, 6.75, inner), rows)
            top += depth

        return rendered(figure)


def _draw_record(
    axes: Axes,
    published: Sequence[PublishedResult],
    imagenet: Sequence[Reproduction],
    note: str,
) -> None:
    headlines = [row for row in published if row.headline]
    winners = [row for row in headlines if row.role.startswith("winner")]
    years = [row.year for row in winners]
    estimates = [r.estimate(TOP5) for r in imagenet]
    top = max([30.0, *(e.high + 2 for e in estimates if e)])
    axes.set(xlim=(years[0] - 0.5, years[-1] + 0.5), ylim=(0, top))
    bare(axes)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.yaxis.grid(color=RULE, linewidth=0.5)
    for year in years[::2]:
        axes.axvspan(year - 0.5, year + 0.5, color=BAND, linewidth=0, zorder=0)
    title = "ILSVRC image classification: top-5 error of the winners, percent"
    heading(axes, 0.42, title, color=INK, weight="bold", size=10)
    heading(axes, 0.2, f"Published on the hidden test set. {note}")

    _draw_humans(axes, headlines, years[0] - 0.44)
    _draw_winners(axes, winners)
    _draw_others(axes, published)
    _draw_strip(axes, headlines)
    _draw_imagenet(axes, imagenet)
    axes.legend(
        handles=_legend(imagenet),
        loc="upper right",
        frameon=True,
        facecolor=PAPER,
        edgecolor=RULE,
        framealpha=1,
        fancybox=False,
        labelspacing=0.65,
        borderpad=0.9,
    )


def _draw_humans(axes: Axes, headlines: Sequence[PublishedResult], x: float) -> None:
    for human in (row for row in headlines if row.role == "human"):
        level = float(human.error_top5)
        axes.axhline(level, color=HUMAN, linewidth=1.1, dashes=(6, 3), zorder=1)
        who = f"{_name(human)}, {human.images:,} test images"
        text = f"human ({who})  {human.error_top5}"
        _label(axes, text, x, level, (0, 4), color=HUMAN, ha="left", va="bottom")


def _draw_winners(axes: Axes, winners: Sequence[PublishedResult]) -> None:
    """The winners on the provided data; a dotted line joins figures of different test sets."""
    for before, after in pairwise(winners):
        same_set = before.eval_set == after.eval_set
        axes.plot(
            [before.year + _WINNER_LANE, after.year + _WINNER_LANE],
            [float(before.error_top5), float(after.error_top5)],
            color=WINNER,
            linewidth=1.6 if same_set else 0.8,
            linestyle="-" if same_set else (0, (1, 3)),
            zorder=2,
        )
    main_set = winners[-1].eval_set
    for row in winners:
        x, y = row.year + _WINNER_LANE, float(row.error_top5)
        axes.plot(x, y, **_winner_marker(row.eval_set == main_set))
        _label(axes, row.error_top5, x, y, (-8, -6), weight="bold", color=WINNER, va="top")


def _draw_others(axes: Axes, published: Sequence[PublishedResult]) -> None:
    """The winners with outside data, and the runners-up."""
    for row in published:
        x, y = row.year + _OTHER_LANE, float(row.error_top5)
        if row.role == "winner" and row.extra_data:
            axes.plot(x, y, **_OUTSIDE)
            _label(axes, row.error_top5, x, y, (6, 3), color=WINNER, ha="left", va="center")
        elif row.role == "runner_up" and row.headline:
            axes.plot(x, y, **_RUNNER_UP)


def _draw_strip(axes: Axes, headlines: Sequence[PublishedResult]) -> None:
    """Under each year: who won, with what, who came second, and on which test set."""
    winners = [row for row in headlines if row.role.startswith("winner")]
    for row in headlines:
        if row.role == "runner_up":
            text = f"◇ {_name(row)} {row.error_top5}"
            _under(axes, row.year, 0.84, text, color=MUTED, size=8)
    for row in winners:
        nets = f"{row.nets} nets" if row.nets.isdigit() else "ensemble" if row.nets else ""
        lines = [
            (0.1, str(row.year), {"weight": "bold", "size": 10}),
            (0.31, _name(row), {}),
            (0.48, row.built_of, {"color": MUTED, "size": 8}),
            (0.64, nets, {"color": MUTED, "size": 8}),
        ]
        for depth, text, style in lines:
            _under(axes, row.year, depth, text, **style)
    sets: dict[str, list[PublishedResult]] = defaultdict(list)
    for row in winners:
        sets[row.eval_set].append(row)
    for rows in sets.values():
        span = (rows[0].year - 0.42, rows[-1].year + 0.42)
        low = -1.08 / _RECORD_HEIGHT
        below = axes.get_xaxis_transform()
        axes.plot(span, (low, low), color=MUTED, linewidth=0.8, clip_on=False, transform=below)
        year, images = rows[0].year, rows[0].images
        text = (
            f"one test set for {year} to {rows[-1].year}: {images:,} images"
            if len(rows) > 1
            else f"{year} set, {images // 1000}k"
        )
        _under(axes, sum(span) / 2, 1.12, text, color=MUTED, size=8)


def _draw_imagenet(axes: Axes, imagenet: Sequence[Reproduction]) -> None:
    by_year: dict[int, list[tuple[Estimate, Reproduction]]] = defaultdict(list)
    for reproduction in imagenet:
        if estimate := reproduction.estimate(TOP5):
            by_year[reproduction.any.year].append((estimate, reproduction))
    for year, estimates in by_year.items():
        models = sorted({reproduction.any.model for _, reproduction in estimates})
        label_x = year + _REPRODUCED_LANE + _NEXT_MODEL * (len(models) - 1) + 0.1
        estimates.sort(key=lambda pair: pair[0].value)
        heights = _spread([estimate.value for estimate, _ in estimates], gap=1.15)
        for (estimate, reproduction), label_y in zip(estimates, heights, strict=True):
            m, y = reproduction.any, estimate.value
            x = year + _REPRODUCED_LANE + _NEXT_MODEL * models.index(m.model)
            for counterpart in reproduction.counterparts[:1]:
                if TOP5 in counterpart.figures:
                    axes.plot(x, counterpart.figures[TOP5], **_COUNTERPART)
            axes.vlines(x, estimate.low, estimate.high, color=REPRODUCED, linewidth=1.2, zorder=5)
            axes.plot(x, y, **_reproduced_marker(m.protocol))
            axes.plot((x, label_x), (y, label_y), color=REPRODUCED, linewidth=0.6, zorder=3)
            text = f"{short(m.model.partition('_')[0], 12)} {y:.1f}"
            style = {"color": REPRODUCED, "ha": "left", "va": "center", "size": 8}
            _label(axes, text, label_x, label_y, (1, 0), **style)


def _draw_small(axes: Axes, rows: Sequence[Reproduction]) -> None:
    m = rows[0].any
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
    bare(axes)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.xaxis.grid(color=RULE, linewidth=0.5)
    axes.set_xlabel(f"top-5 error, percent; {_BARS}", color=MUTED)
    benchmark = rows[0].benchmark
    name = benchmark.words if benchmark and benchmark is not IMAGENET else "ImageNet"
    runs = f"Small-scale runs (not {name} figures)" if rows[0].not_comparable else name
    title = f"{runs}: {m.profile}, {short(m.dataset, 40)}, "
    heading(axes, 0.36, f"{title}{m.num_classes:,} classes", weight="bold", color=SMALL)
    chance = METRICS[TOP5].chance(m.num_classes) or 0.0
    axes.axvline(chance, color=MUTED, linewidth=1, dashes=(2, 2))
    _label(axes, f"chance {chance:.1f}", chance, -0.5, (0, 3), color=MUTED, va="bottom")
    names = [_row_name(row.any) for row in rows]
    for y, row in enumerate(rows):
        estimate = row.estimate(TOP5)
        assert estimate is not None  # _small_panels leaves the others out
        axes.hlines(y, estimate.low, estimate.high, color=SMALL, linewidth=1.4, zorder=3)
        axes.plot(estimate.value, y, "D", color=SMALL, markersize=5, zorder=4)
        m = row.any
        # The hash distinguishes runs that differ only in their recipe.
        left = f"{names[y]}  {m.recipe_id[:5]}" if names.count(names[y]) > 1 else names[y]
        seeds = f"{estimate.seeds} seeds" if estimate.seeds > 1 else f"n = {m.n:,}"
        right = f"{estimate.value:.1f}  ({estimate.low:.1f} to {estimate.high:.1f}), {seeds}"
        axes.text(-0.02, y, left, transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.text(
            1.02, y, right, transform=axes.get_yaxis_transform(), color=SMALL, va="center", size=8
        )


def _beside_the_record(reproduction: Reproduction) -> bool:
    """Whether a reproduction is drawn in the record's panel: an ImageNet figure at full scale."""
    on_imagenet = reproduction.any.benchmark == IMAGENET.name
    return on_imagenet and not reproduction.not_comparable and bool(reproduction.estimate(TOP5))


def _small_panels(reproduced: Sequence[Reproduction]) -> list[list[Reproduction]]:
    panels: dict[tuple[object, ...], list[Reproduction]] = defaultdict(list)
    for reproduction in reproduced:
        if reproduction.estimate(TOP5) and not _beside_the_record(reproduction):
            m = reproduction.any
            scale = m.profile, m.benchmark, bool(reproduction.not_comparable)
            panels[*scale, m.dataset, m.dataset_digest, m.num_classes].append(reproduction)
    return list(panels.values())


def _winner_marker(main_set: bool) -> dict[str, Any]:
    fill = WINNER if main_set else PAPER
    return marker("o", 7, WINNER, markerfacecolor=fill, markeredgewidth=1.4)


def _reproduced_marker(protocol: str) -> dict[str, Any]:
    fill = PAPER if protocol == "centre_crop" else REPRODUCED
    shape = "s" if protocol.startswith(("centre_crop", "ten_crop")) else "P"
    return marker(shape, 5.5, REPRODUCED, markerfacecolor=fill, markeredgewidth=1.3, zorder=6)


_OUTSIDE = marker("v", 6.5, WINNER, markerfacecolor=PAPER, markeredgewidth=1.2)
_RUNNER_UP = marker("D", 4.5, MUTED, markerfacecolor=PAPER, markeredgewidth=1.2)
_COUNTERPART = marker("_", 13, INK, markeredgewidth=1.6)


def _legend(imagenet: Sequence[Reproduction]) -> list[Line2D]:
    entries = [
        ("winner, challenge data only (from 2012: ensembles)", _winner_marker(True)),
        ("the same, on another test set (2010, 2011)", _winner_marker(False)),
        ("winner, with outside data", _OUTSIDE),
        ("runner-up", _RUNNER_UP),
    ]
    protocols = sorted({reproduction.any.protocol for reproduction in imagenet})
    entries += [
        (f"reproduced: one net, validation set, {spelt(p)}", _reproduced_marker(p))
        for p in protocols
    ]
    if imagenet:
        entries.append(("published in the paper: validation set, same protocol", _COUNTERPART))
    return [Line2D([], [], label=label, **style) for label, style in entries]


def _under(axes: Axes, x: float, inches: float, text: str, **style: Any) -> None:
    axes.text(
        x,
        -inches / _RECORD_HEIGHT,
        text,
        transform=axes.get_xaxis_transform(),
        **({"ha": "center", "va": "top"} | style),
    )


def _label(
    axes: Axes, text: str, x: float, y: float, points: tuple[float, float], **style: Any
) -> None:
    """`text` beside the data point (x, y)."""
    options: dict[str, Any] = {"ha": "center", "zorder": 7} | style
    axes.annotate(text, (x, y), points, textcoords="offset points", **options)


def _spread(levels: Sequence[float], gap: float) -> list[float]:
    """`levels`, in ascending order, moved up just enough to be `gap` apart."""
    spread: list[float] = []
    for level in levels:
        spread.append(max(level, spread[-1] + gap) if spread else level)
    return spread


def _row_name(m: Measurement) -> str:
    return f"{m.year}  {short(m.model, 16)}, {spelt(m.protocol)}"


def _name(row: PublishedResult) -> str:
    return row.team.partition(" (")[0]
