"""What the report's pictures and tables share: colours, short texts, bare axes, reproducible bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Name: the colour on light paper, the colour on dark paper. The report swaps them by name.
PALETTE = {
    "paper": ("#ffffff", "#14181f"),
    "band": ("#f4f6f9", "#1b212b"),
    "rule": ("#d5dae2", "#39424f"),
    "muted": ("#5d6776", "#9aa5b4"),
    "ink": ("#1b2230", "#e8ebf0"),
    "winner": ("#1f5fa8", "#6fb0f5"),
    "human": ("#27805c", "#5cc79b"),
    "reproduced": ("#c8371f", "#ff8468"),
    "small": ("#8a5a00", "#e0ac4a"),
}
PAPER, BAND, RULE, MUTED, INK, WINNER, HUMAN, REPRODUCED, SMALL = (
    light for light, _ in PALETTE.values()
)


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw and save a picture within this; `name` keeps its elements apart from other pictures'."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's own matplotlibrc must not change the picture
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": name,
                "font.size": 8.5,
                "text.color": INK,
                "text.parse_math": False,  # names of data sets are not formulas
                "axes.linewidth": 0.7,
            }
        )
        yield


def rendered(figure: Figure) -> tuple[bytes, bytes]:
    """The picture as (SVG, PNG); the same figure gives the same bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=undated)
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def add_axes(figure: Figure, left: float, top: float, right: float, depth: float) -> Axes:
    """Axes from `left` to `right` and from `top` down by `depth`, in inches from the top left corner."""
    width, height = figure.get_size_inches()
    corner = (left / width, 1 - (top + depth) / height)
    size = ((right - left) / width, depth / height)
    return figure.add_axes((*corner, *size), facecolor="none")


def bare(axes: Axes) -> None:
    """Remove the frame, except for the line at the bottom."""
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=3, width=0.7)
    axes.tick_params(axis="y", length=0)


def heading(axes: Axes, inches: float, text: str, **style: Any) -> None:
    """A line of text, `inches` above the axes and flush with the picture's left edge."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    top = axes.get_position().y1
    figure.text(0.12 / width, top + inches / height, text, **({"color": MUTED} | style))


def short(text: str, width: int) -> str:
    """`text`, cut to `width` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def spelt(key: str) -> str:
    """A key such as ``ten_crop`` in words."""
    return key.replace("_", " ")


def minus(text: str) -> str:
    """`text` with typographic minus signs."""
    return text.replace("-", "−")


def marker(shape: str, size: float, color: str, **style: Any) -> dict[str, Any]:
    """The style of a point."""
    point = {"marker": shape, "markersize": size, "color": color, "linestyle": "", "zorder": 4}
    return point | style
