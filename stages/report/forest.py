"""A paper's forest plot: the effect of each tested claim with its interval, beside the published effect."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stages.ledger.entries import Entry, published_effect
from stages.ledger.verdict import Effect
from stages.metrics import METRICS
from stages.report.style import (
    BAND,
    HUMAN,
    INK,
    MUTED,
    PAPER,
    REPRODUCED,
    RULE,
    WINNER,
    add_axes,
    bare,
    drawing,
    heading,
    marker,
    minus,
    rendered,
    short,
)

# Distinguished by shape and fill as well as by colour.
_VERDICTS: dict[str, dict[str, Any]] = {
    "confirmed": marker("o", 6, HUMAN, zorder=6),
    "contradicted": marker("X", 7, REPRODUCED, zorder=6),
    "inconclusive": marker("o", 5.5, INK, markerfacecolor=PAPER, markeredgewidth=1.3, zorder=6),
}
_PUBLISHED = marker("|", 13, WINNER, markeredgewidth=2, zorder=5)
_LOGGED = marker("^", 5, WINNER, markerfacecolor=PAPER, markeredgewidth=1.2, zorder=5)

# Inches.
_WIDTH, _LEFT, _RIGHT = 9.0, 2.05, 6.45
_ROW, _HEAD, _FOOT, _NEXT_HEAD, _LEGEND = 0.3, 0.62, 0.42, 0.3, 0.42
# The axis extends beyond the effects by at most this many times their range.
_CLIP = 3.0
# Where effects are much larger, the axis is linear up to this many points.
_LINEAR = 5.0


def draw_forest(name: str, entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """The picture of a paper's tested claims as (SVG, PNG), one row per entry, legible at 900 px wide.

    Args:
        name: the paper's name.
        entries: the entries of its claims, each with an effect; every unit has its own axes.
    """
    by_unit: dict[str, list[Entry]] = {}
    for metric in METRICS.values():  # the order of the panels
        rows = [entry for entry in entries if entry.claim.metric == metric.name]
        if rows:
            by_unit.setdefault(metric.gain, []).extend(rows)
    order = {id(entry): place for place, entry in enumerate(entries)}
    panels = [
        (sorted(rows, key=lambda entry: order[id(entry)]), unit) for unit, rows in by_unit.items()
    ]
    heights = [_ROW * len(rows) + _FOOT for rows, _ in panels]
    height = _HEAD + sum(heights) + _NEXT_HEAD * (len(panels) - 1) + _LEGEND
    with drawing(f"forest-{name}"):
        figure = Figure(figsize=(_WIDTH, height), facecolor=PAPER)
        top = _HEAD
        for place, ((rows, unit), depth) in enumerate(zip(panels, heights, strict=True)):
            axes = add_axes(figure, _LEFT, top, _RIGHT, depth - _FOOT)
            _draw(axes, rows, unit)
            if place == 0:
                title = f"Claims of {name}: measured effects"
                heading(axes, 0.4, title, color=INK, weight="bold", size=10)
                note = "Mean over paired runs with 95 % interval; to the right of zero, the technique helps."
                heading(axes, 0.2, note)
            top += depth + _NEXT_HEAD
        _legend(figure, entries)
        return rendered(figure)


def _draw(axes: Axes, rows: Sequence[Entry], unit: str) -> None:
    low, high = _range(rows)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    bare(axes)
    axes.tick_params(axis="y", labelleft=False)
    axes.xaxis.grid(color=RULE, linewidth=0.5)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=2)
    label = unit
    if max(high, -low) > 2 * _LINEAR and METRICS[rows[0].claim.metric].unit == "%":
        low, high = 1.2 * low, 1.2 * high
        axes.set_xlim(low, high)
        # One collapsed arm (30 points in Zeiler and Fergus's Table 3) must not hide the rest.
        axes.set_xscale("symlog", linthresh=_LINEAR, linscale=1.6)
        ticks = [t for t in (-60, -30, -10, *range(-5, 6), 10, 30, 60) if low <= t <= high]
        axes.set_xticks(ticks, [minus(f"{t}") for t in ticks])
        axes.set_xticks([], minor=True)
        label += f" (logarithmic beyond {_LINEAR:g})"
    axes.set_xlabel(label, color=MUTED)
    beside = axes.get_yaxis_transform()
    for y, entry in enumerate(rows):
        effect, conditions = entry.effect, entry.conditions
        assert effect is not None
        assert conditions is not None
        if y % 2 == 0:
            axes.axhspan(y - 0.5, y + 0.5, color=BAND, linewidth=0, zorder=0)
        _draw_effect(axes, y, entry, effect)
        where = short(conditions.label, 34)
        axes.text(-0.02, y - 0.12, entry.claim.id, transform=beside, ha="right", va="center")
        axes.text(
            -0.02, y + 0.27, where, transform=beside, ha="right", va="center", color=MUTED, size=6.5
        )
        axes.text(
            1.02,
            y,
            f"{_in_words(effect)}, {entry.verdict}",
            transform=beside,
            va="center",
            color=_VERDICTS[entry.verdict]["color"],
            size=7,
        )


def _draw_effect(axes: Axes, y: int, entry: Entry, effect: Effect) -> None:
    """One row: the equivalence margin, the interval, the published effects and the measured one."""
    claim, style = entry.claim, _VERDICTS[entry.verdict]
    low, high = axes.get_xlim()
    if claim.expects == "equivalent":
        ends = (-claim.margin, claim.margin)
        axes.plot(ends, (y, y), color=RULE, linewidth=9, solid_capstyle="butt", zorder=1)
    if effect.pairs > 1:
        ends = max(effect.low, low), min(effect.high, high)
        axes.plot(ends, (y, y), color=style["color"], linewidth=1.5, zorder=4)
        for end, cut, shape in (
            (low, effect.low < low, "<"),
            (high, effect.high > high, ">"),
        ):
            if cut:  # the interval extends beyond the picture
                axes.plot(end, y, **marker(shape, 5, style["color"], clip_on=False))
    for logged, mark in ((False, _PUBLISHED), (True, _LOGGED)):
        if published := published_effect(claim, logged=logged):
            axes.plot(published.value, y, **mark)
    axes.plot(effect.value, y, **style)


def _in_words(effect: Effect) -> str:
    if effect.pairs == 1:
        return minus(f"{effect.value:+.2f}, 1 pair")
    interval = f"{effect.low:+.2f} to {effect.high:+.2f}"
    return minus(f"{effect.value:+.2f} ({interval}), {effect.pairs} pairs")


def _range(rows: Sequence[Entry]) -> tuple[float, float]:
    """The axis's range: all effects and zero, and as much of wide intervals as stays readable."""
    points, ends = [0.0], []
    for entry in rows:
        effect = entry.effect
        assert effect is not None
        points.append(effect.value)
        points += [
            published.value
            for logged in (False, True)
            if (published := published_effect(entry.claim, logged=logged))
        ]
        if entry.claim.expects == "equivalent":
            points += [-entry.claim.margin, entry.claim.margin]
        ends += [end for end in (effect.low, effect.high) if math.isfinite(end)]
    span = max(max(points) - min(points), 0.5)
    low = max(min([*points, *ends]), min(points) - _CLIP * span)
    high = min(max([*points, *ends]), max(points) + _CLIP * span)
    room = 0.06 * (high - low)
    return low - room, high + room


def _legend(figure: Figure, entries: Sequence[Entry]) -> None:
    shown = list(_VERDICTS.items())
    shown += [("published", _PUBLISHED)]
    if any(published_effect(entry.claim, logged=True) for entry in entries):
        shown += [("authors' log", _LOGGED)]
    handles = [Line2D([], [], label=label, **style) for label, style in shown]
    if any(entry.claim.expects == "equivalent" for entry in entries):
        style = marker("s", 7, RULE)
        handles.append(Line2D([], [], label="equivalence margin", **style))
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.005, 0.0),
        ncols=len(handles),
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.4,
    )
