"""What becomes of a box, and what is noted of an odd one.

| box                                                           | noted       |
| ------------------------------------------------------------- | ----------- |
| its last column or row is the first or before it              | box-empty   |
| it extends beyond its image by more than a pixel              | box-outside |

Odd boxes are kept as they were annotated: whoever trains on boxes decides what to do with them. One
pixel is tolerated because annotators did not agree
whether the image's own edge is its last pixel or the one after it.
"""

from collections.abc import Iterable

import numpy as np

from stages.dataset import Box

EMPTY, OUTSIDE = "box-empty", "box-outside"
_SLACK = 1.0


def scaled(box: Box, across: float, down: float) -> Box:
    """A box of an image that is made smaller by two factors, in single precision as it is stored."""
    left, right = _scaled(box.xmin, box.xmax, across)
    top, bottom = _scaled(box.ymin, box.ymax, down)
    return Box(left, top, right, bottom)


def _scaled(first: float, last: float, factor: float) -> tuple[float, float]:
    start, end = first, last
    if factor != 1:
        # It is the edges that scale, and the last pixel's is one further.
        start, end = first * factor, (last + 1) * factor - 1
        if last >= first:
            end = max(start, end)  # of what was not upside down, nothing becomes so
    return float(np.float32(start)), float(np.float32(end))


def noted(boxes: Iterable[Box], width: int, height: int) -> set[str]:
    """The flags of an image's boxes, in the image as it is stored."""
    flags = set()
    for box in boxes:
        if box.xmax <= box.xmin or box.ymax <= box.ymin:
            flags.add(EMPTY)
        if min(box.xmin, box.ymin) < -_SLACK or (
            box.xmax > width - 1 + _SLACK or box.ymax > height - 1 + _SLACK
        ):
            flags.add(OUTSIDE)
    return flags
