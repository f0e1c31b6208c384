"""The embedded data set: pictures that the project paints itself, as an ILSVRC archive.

It stands in where no images are at hand, so that every stage can be run and tested without a
download. A class is a shape together with a texture ("spotted star"): neither of the two alone,
nor colour, place or light, which are drawn independently, gives it away.

The wnids n990SS0TT (shape and texture, from 01) cannot be taken for ImageNet's: WordNet 3.0
numbers its nouns below n15300052.
"""

from stages.embedded.archive import generate
from stages.embedded.classes import CLASSES, SyntheticClass

__all__ = ["CLASSES", "SyntheticClass", "generate"]
