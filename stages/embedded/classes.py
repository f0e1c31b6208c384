"""What the embedded classes are called and how their pictures are described in words."""

from dataclasses import dataclass

from stages.embedded.scene import Pictures
from stages.embedded.shapes import COLOURS, SHAPES, TEXTURES


@dataclass(frozen=True)
class SyntheticClass:
    """One row of ``classes.tsv``.

    Attributes:
        wnid: n990SS0TT, made up.
        ilsvrc_id: ILSVRC2012_ID, from 1, in another order than the wnids, as in the real devkit.
        index: place among the sorted wnids, from 0.
        shape, texture: words that `SHAPES` and `TEXTURES` know.
    """

    wnid: str
    ilsvrc_id: int
    index: int
    shape: str
    texture: str

    @property
    def words(self) -> str:
        """The name that ``classes.tsv`` gives the class."""
        return f"{self.texture} {self.shape}"


def _classes() -> tuple[SyntheticClass, ...]:
    pairs = [(s, t) for s in range(len(SHAPES)) for t in range(len(TEXTURES))]
    shapes, textures = list(SHAPES), list(TEXTURES)
    return tuple(
        SyntheticClass(
            wnid=f"n990{shape + 1:02d}0{texture + 1:02d}",
            # 5 and 24 have no common divisor: a permutation; with 9, ID and ID - 1 never equal
            # the index, so that mistaking one for the other is an error for every class.
            ilsvrc_id=(5 * index + 9) % len(pairs) + 1,
            index=index,
            shape=shapes[shape],
            texture=textures[texture],
        )
        for index, (shape, texture) in enumerate(pairs)
    )


CLASSES = _classes()

_NUMBERS = ("no", "one", "two", "three")


def _place(x: float, y: float) -> str:
    """Words for a centre, in shares of the image's width and height."""
    row = "top" if y < 0.44 else "bottom" if y > 0.56 else ""
    column = "left" if x < 0.44 else "right" if x > 0.56 else ""
    if not row and not column:
        return "in the centre"
    return "towards the " + " ".join(filter(None, (row, column)))


def captions(pictures: Pictures, number: int) -> list[str]:
    """Five sentences that are true of picture ``number``; each names the shape and the texture."""
    subject, size = pictures.subject, pictures.pixels.shape[1]
    shape = list(SHAPES)[subject.shape[number]]
    texture = list(TEXTURES)[subject.texture[number]]
    first, second = (COLOURS[i] for i in subject.colours[number])
    above, below = (COLOURS[i] for i in pictures.surfaces[number])
    xmin, ymin, xmax, ymax = pictures.boxes[number].tolist()
    place = _place((xmin + xmax + 1) / (2 * size), (ymin + ymax + 1) / (2 * size))
    share = max(xmax - xmin, ymax - ymin) / size
    extent = "small" if share < 0.62 else "large" if share > 0.74 else "medium-sized"
    count = int(pictures.fragments[number])
    clutter = f"{_NUMBERS[count]} broken piece{'s' * (count != 1)}"
    return [
        f"A {extent} {texture} {shape} {place} of the picture.",
        f"The {shape} is {texture} in {first} and {second}.",
        f"A {texture} {shape} before a muted background of {above} above {below}.",
        f"There is a {texture} {shape} with {clutter} around it.",
        f"A {extent} {shape}, {texture} in {first} and {second}, {place}, with {clutter} nearby.",
    ]
