"""Shapes, textures and the layers made of them, each computed for a batch of images at once.

A shape is a field of signed distances (negative inside), a texture a field that mixes two colours.
A `Layer` is one shape filled with one texture, once for each image of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]

PALETTE = {
    "black": (0.08, 0.08, 0.09),
    "grey": (0.50, 0.50, 0.52),
    "white": (0.93, 0.93, 0.90),
    "red": (0.80, 0.12, 0.12),
    "orange": (0.95, 0.52, 0.10),
    "yellow": (0.95, 0.85, 0.20),
    "green": (0.15, 0.58, 0.22),
    "cyan": (0.25, 0.78, 0.82),
    "blue": (0.14, 0.26, 0.75),
    "purple": (0.48, 0.18, 0.62),
    "pink": (0.96, 0.60, 0.72),
    "brown": (0.42, 0.25, 0.12),
}
COLOURS = tuple(PALETTE)
_RGB = np.array(list(PALETTE.values()), dtype=np.float32)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_LIGHTNESS = _RGB @ LUMA
# A texture shows only between a darker and a lighter colour; which of the two comes first varies.
_PAIRS = np.argwhere(np.abs(_LIGHTNESS[:, None] - _LIGHTNESS[None, :]) > 0.4)


def _disc(u: Array, v: Array) -> Array:
    return np.hypot(u, v) - 0.92


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.82


def _triangle(u: Array, v: Array) -> Array:
    return np.maximum(v, 0.866 * np.abs(u) - 0.5 * v) - 0.62


def _star(u: Array, v: Array) -> Array:
    """Five points: the plane folded onto one half of a point, whose edge is a straight line."""
    outer, inner, half = 1.26, 0.56, np.pi / 5
    angle = np.abs((np.arctan2(u, -v) + half) % (2 * half) - half)
    along, across = inner * np.cos(half) - outer, inner * np.sin(half)
    length = np.hypot(along, across)
    radius = np.hypot(u, v)
    rise = radius * np.cos(angle) - outer
    return rise * float(across / length) - radius * np.sin(angle) * float(along / length)


def _ring(u: Array, v: Array) -> Array:
    return np.abs(np.hypot(u, v) - 0.76) - 0.27


def _cross(u: Array, v: Array) -> Array:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - 1.05, np.minimum(u, v) - 0.36)


# Signed distance in units of the radius; of similar areas, so that amounts of colour say little.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}


def _striped(p: Array, q: Array, noise: Array) -> Array:
    return np.sin(2 * np.pi * p)


def _checked(p: Array, q: Array, noise: Array) -> Array:
    return 1.5 * np.sin(np.pi * p) * np.sin(np.pi * q)


def _spotted(p: Array, q: Array, noise: Array) -> Array:
    row = np.floor(q)
    staggered = p + 0.5 * row
    return 4 * (0.36 - np.hypot(staggered - np.floor(staggered) - 0.5, q - row - 0.5))


def _mottled(p: Array, q: Array, noise: Array) -> Array:
    return 1.3 * noise


# Positive in one colour and negative in the other, with a slope of a few units a period between
# them. Arguments: coordinates in periods, and noise of unit variance for what does not repeat.
TEXTURES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "striped": _striped,
    "checked": _checked,
    "spotted": _spotted,
    "mottled": _mottled,
}


@dataclass(frozen=True)
class Layer:
    """One shape filled with one texture in each of B images; lengths in pixels, angles in radians.

    Attributes:
        shape, texture: places in `SHAPES` and `TEXTURES`, (B,).
        centre: x and y, (B, 2).
        radius: about half the extent, (B,).
        angle: of the shape, (B,).
        grain: angle of the texture, (B,).
        period: of the texture, (B,).
        colours: places of the two colours in `COLOURS`, (B, 2).
        rgb: the two colours as painted, 0 to 1, (B, 2, 3).
    """

    shape: Integers
    texture: Integers
    centre: Array
    radius: Array
    angle: Array
    grain: Array
    period: Array
    colours: Integers
    rgb: Array


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    """float32 from ``low`` to ``high``."""
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def draw_layer(
    rng: np.random.Generator,
    shape: Integers,
    texture: Integers,
    centre: Array,
    radius: Array,
    *,
    tilt: float,
    unit: float,
) -> Layer:
    """A layer with colours, angles (the shape's within ``tilt``) and period drawn.

    ``unit`` is the length that is one pixel in an image of 72.
    """
    batch = len(shape)
    colours = _PAIRS[rng.integers(len(_PAIRS), size=batch)]
    return Layer(
        shape=shape,
        texture=texture,
        centre=centre,
        radius=radius,
        angle=uniform(rng, -tilt, tilt, batch),
        grain=uniform(rng, 0, np.pi, batch),
        period=uniform(rng, 10 * unit, 14 * unit, batch),
        colours=colours,
        rgb=_RGB[colours] + uniform(rng, -0.07, 0.07, batch, 2, 3),
    )


def each(values: Array) -> Array:
    """One value per image, (B,), to be broadcast over its pixels."""
    return values[:, None, None]


def rotated(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates along and across the direction ``angle`` (B,)."""
    cos, sin = each(np.cos(angle)), each(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def from_centre(layer: Layer, x: Array, y: Array) -> tuple[Array, Array]:
    """Coordinates relative to the layer's centre."""
    return x - each(layer.centre[:, 0]), y - each(layer.centre[:, 1])


def smooth_noise(rng: np.random.Generator, batch: int, size: int, cells: int) -> Array:
    """Noise of unit variance that varies over ``cells`` cells a side: (batch, size, size)."""
    knots = rng.standard_normal((batch, cells + 1, cells + 1), dtype=np.float32)
    place = np.linspace(0, cells, size, endpoint=False, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells + 1, dtype=np.float32)))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights @ knots @ weights.T


def distance(layer: Layer, x: Array, y: Array) -> Array:
    """Signed distance in pixels of each pixel to the outline, negative inside: (B, size, size)."""
    u, v = rotated(*from_centre(layer, x, y), layer.angle)
    u, v = u / each(layer.radius), v / each(layer.radius)
    field = np.empty_like(u)
    for number, outline in enumerate(SHAPES.values()):
        chosen = layer.shape == number
        field[chosen] = outline(u[chosen], v[chosen])
    return field * each(layer.radius)


def fill(layer: Layer, x: Array, y: Array, noise: Array) -> Array:
    """The texture in its two colours, without an outline: (B, 3, size, size)."""
    p, q = rotated(*from_centre(layer, x, y), layer.grain)
    p, q = p / each(layer.period), q / each(layer.period)
    field = np.empty_like(p)
    for number, pattern in enumerate(TEXTURES.values()):
        chosen = layer.texture == number
        field[chosen] = pattern(p[chosen], q[chosen], noise[chosen])
    # Over one pixel the field changes by its slope / period: this makes borders a pixel wide.
    mix = np.clip(field * each(layer.period / (2 * np.pi)) + 0.5, 0, 1)
    first, second = layer.rgb[:, 0, :, None, None], layer.rgb[:, 1, :, None, None]
    return first + (second - first) * mix[:, None]


def blend(canvas: Array, colour: Array, cover: Array) -> None:
    """Paint ``colour`` over ``canvas``, both (B, 3, size, size), as far as ``cover`` says.

    ``cover`` is (B, size, size), 1 where nothing of the canvas shines through.
    """
    canvas += (colour - canvas) * cover[:, None]
