"""Batches of small synthetic photographs: a lit, textured object among clutter.

Lengths are those of an image of 72 pixels; they scale with the image.
"""

from collections.abc import Sized
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stages.embedded.shapes import (
    LUMA,
    SHAPES,
    TEXTURES,
    Array,
    Integers,
    Layer,
    blend,
    distance,
    draw_layer,
    each,
    fill,
    from_centre,
    rotated,
    smooth_noise,
    uniform,
)

MOST_FRAGMENTS = 3


@dataclass(frozen=True)
class Pictures:
    """B pictures and what is true of them.

    Attributes:
        pixels: uint8 RGB, (B, size, size, 3).
        boxes: xmin, ymin, xmax, ymax of the object, the outermost pixels it covers, (B, 4).
        subject: the object.
        surfaces: places in `COLOURS` of the colours of wall and floor, (B, 2).
        fragments: how many broken pieces can be seen, (B,).
    """

    pixels: npt.NDArray[np.uint8]
    boxes: Integers
    subject: Layer
    surfaces: Integers
    fragments: Integers


def paint(rng: np.random.Generator, shape: Integers, texture: Integers, size: int) -> Pictures:
    """Paint one picture for each pair of places in `SHAPES` and `TEXTURES`, both (B,).

    Everything else is drawn from ``rng`` and depends on neither.
    """
    batch, unit = len(shape), size / 72
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)[:, None]
    noise = (smooth_noise(rng, batch, size, 9) + smooth_noise(rng, batch, size, 18)) / 2**0.5
    canvas, surfaces = _background(rng, x, y, noise, unit)
    fragments = _scatter_fragments(rng, canvas, x, y, noise, unit)

    radius = uniform(rng, 21 * unit, 28 * unit, batch)
    room = ((size - 1) / 2 - 1.05 * radius)[:, None]
    centre = (size - 1) / 2 + room * uniform(rng, -1, 1, batch, 2)
    subject = draw_layer(rng, shape, texture, centre, radius, tilt=0.2, unit=unit)
    light = uniform(rng, -np.pi, 0, batch)  # from above: y points down
    cover = _paint_subject(rng, canvas, subject, light, x, y, noise, unit)

    return Pictures(
        pixels=_photograph(rng, canvas, light, x, y),
        boxes=_boxes(cover > 0.5),
        subject=subject,
        surfaces=surfaces,
        fragments=_visible(fragments * (1 - cover), unit),
    )


def _background(
    rng: np.random.Generator, x: Array, y: Array, noise: Array, unit: float
) -> tuple[Array, Integers]:
    """A faintly textured wall above a floor: the image (B, 3, size, size) and their colours."""
    batch, size = noise.shape[:2]
    surfaces = []
    for _ in range(2):
        layer = draw_layer(
            rng,
            shape=np.zeros(batch, dtype=np.int64),
            texture=_pick(rng, TEXTURES, batch),
            centre=uniform(rng, 0, size, batch, 2),
            radius=np.ones(batch, dtype=np.float32),
            tilt=0,
            unit=unit,
        )
        first, second = layer.rgb[:, :1], layer.rgb[:, 1:]
        # Half the saturation, so that the object stands out, but the same lightness.
        ground = (first + first @ LUMA[:, None]) / 2
        trace = ground + uniform(rng, 0, 0.15, batch, 1, 1) * (second - first)
        surfaces.append(replace(layer, rgb=np.concatenate([ground, trace], axis=1)))
    wall, floor = surfaces
    canvas = fill(wall, x, y, noise)
    horizon = each(uniform(rng, 0.35 * size, 0.85 * size, batch))
    slope = each(uniform(rng, -0.15, 0.15, batch))
    blend(canvas, fill(floor, x, y, noise), np.clip(y - horizon + slope * (x - size / 2), 0, 1))
    canvas += 0.05 * smooth_noise(rng, batch, size, 6)[:, None]
    return canvas, np.stack([wall.colours[:, 0], floor.colours[:, 0]], axis=1)


def _scatter_fragments(
    rng: np.random.Generator, canvas: Array, x: Array, y: Array, noise: Array, unit: float
) -> Array:
    """Scatter shapes with one side broken off; returns what each covers, (most, B, size, size)."""
    batch, size = noise.shape[:2]
    count = rng.integers(MOST_FRAGMENTS + 1, size=batch)
    covers = np.empty((MOST_FRAGMENTS, *noise.shape), dtype=np.float32)
    for number in range(MOST_FRAGMENTS):
        piece = draw_layer(
            rng,
            shape=_pick(rng, SHAPES, batch),
            texture=_pick(rng, TEXTURES, batch),
            centre=uniform(rng, 0, size, batch, 2),
            radius=uniform(rng, 6 * unit, 10 * unit, batch),
            tilt=np.pi,
            unit=unit,
        )
        break_line, _ = rotated(*from_centre(piece, x, y), uniform(rng, -np.pi, np.pi, batch))
        cover = np.clip(0.5 - np.maximum(distance(piece, x, y), break_line), 0, 1)
        cover[count <= number] = 0
        blend(canvas, fill(piece, x, y, noise), cover)
        covers[:number] *= 1 - cover
        covers[number] = cover
    return covers


def _paint_subject(
    rng: np.random.Generator,
    canvas: Array,
    subject: Layer,
    light: Array,
    x: Array,
    y: Array,
    noise: Array,
    unit: float,
) -> Array:
    """Paint the object, lit from the direction ``light`` (B,); returns what it covers."""
    batch = len(light)
    lift = uniform(rng, 2 * unit, 5 * unit, batch)
    to_light = np.stack([np.cos(light), np.sin(light)], axis=1)
    below = replace(subject, centre=subject.centre - to_light * lift[:, None])
    outline, shadow = distance(subject, x, y), distance(below, x, y)
    darkness = each(uniform(rng, 0.3, 0.7, batch)) * np.clip(0.5 - shadow / (3 * unit), 0, 1)
    canvas *= 1 - darkness[:, None]

    # The distance grows outwards: its change towards the light is the slope that faces the light.
    bevel = np.clip((shadow - outline) / each(lift), -1, 1)
    bevel *= np.exp(np.minimum(outline, 0) / (3 * unit))
    along, across = rotated(*from_centre(subject, x, y), light)
    along, across = along / each(subject.radius), across / each(subject.radius)
    shade = 1 + each(uniform(rng, 0, 0.4, batch)) * along + 0.25 * bevel
    gloss = each(uniform(rng, 0, 0.6, batch)) * np.exp(-8 * ((along - 0.45) ** 2 + across**2))
    cover = np.clip(0.5 - outline, 0, 1)
    blend(canvas, fill(subject, x, y, noise) * shade[:, None] + gloss[:, None], cover)
    return cover


def _photograph(
    rng: np.random.Generator, canvas: Array, light: Array, x: Array, y: Array
) -> npt.NDArray[np.uint8]:
    """Fall-off of the light, exposure and sensor noise: uint8 pixels (B, size, size, 3)."""
    batch, size = len(canvas), canvas.shape[-1]
    along, _ = rotated(x / size - 0.5, y / size - 0.5, light)
    canvas = canvas * (1 + each(uniform(rng, 0, 0.6, batch)) * along)[:, None]
    contrast = uniform(rng, 0.8, 1.1, batch, 1, 1, 1)
    brightness = uniform(rng, 0.4, 0.6, batch, 1, 1, 1)
    sensor = uniform(rng, 0.01, 0.03, batch, 1, 1, 1)
    exposed = brightness + contrast * (canvas - 0.5)
    exposed += sensor * rng.standard_normal(canvas.shape, dtype=np.float32)
    return (np.clip(exposed, 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def _boxes(mask: npt.NDArray[np.bool_]) -> Integers:
    """xmin, ymin, xmax, ymax of the true pixels of each (B, size, size) mask: (B, 4)."""
    columns, rows = np.any(mask, axis=1), np.any(mask, axis=2)
    last = mask.shape[1] - 1
    edges = [np.argmax(line, axis=1) for line in (columns, rows)]
    edges += [last - np.argmax(line[:, ::-1], axis=1) for line in (columns, rows)]
    return np.stack(edges, axis=1)


def _pick(rng: np.random.Generator, kinds: Sized, batch: int) -> Integers:
    return rng.integers(len(kinds), size=batch, dtype=np.int64)


def _visible(covers: Array, unit: float) -> Integers:
    """How many of the layers (K, B, size, size) show more than a speck: (B,)."""
    return np.sum(covers.sum(axis=(2, 3)) > 20 * unit**2, axis=0)
