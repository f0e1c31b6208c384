"""What defines the training of a classifier. Pure data: importing this module imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from stages.augmentation import Augmentation
from stages.errors import PipelineError
from stages.execution import Execution
from stages.recipe import Optimiser, Pretrained, Recipe

# How a trained network is tested, by name and, for a command's help, in a few words. What each protocol shows
# the network is a row of the table in `stages.tasks.classification.protocols`.
TestProtocol = Literal[
    "centre_crop",
    "ten_crop",
    "ten_crop_rectangle",
    "dense",
    "dense_multi_scale",
    "dense_multi_scale_scores",
    "multi_crop",
    "multi_crop_and_dense",
    "144_crops",
]
PROTOCOL_WORDS: Mapping[TestProtocol, str] = {
    "centre_crop": "one crop from the middle of the centre square",
    "ten_crop": "the corners and the centre of the centre square, and their mirror images",
    "ten_crop_rectangle": "the same of the whole image, whose short side has the square's length",
    "dense": "the whole image at the middle scale and its mirror image, averaged over all places",
    "dense_multi_scale": "the whole image at every scale, with mirror images",
    "dense_multi_scale_scores": "the same, averaging scores instead of probabilities",
    "multi_crop": "5 x 5 crops at every scale, with mirror images",
    "multi_crop_and_dense": "the mean of multi_crop and dense_multi_scale",
    "144_crops": "six views of three squares at each of four scales, with mirror images",
}


@dataclass(frozen=True)
class CrossEntropy:
    """Minus the logarithm of the softmax of the right class's score."""

    kind: Literal["cross_entropy"] = "cross_entropy"


@dataclass(frozen=True)
class MAPCriterion:
    """LeCun 1998, eq. 9, for an output of minus the distances to the classes' codes.

    Attributes:
        j: distance of the rubbish class.
    """

    j: float
    kind: Literal["map_criterion"] = "map_criterion"


Loss = CrossEntropy | MAPCriterion


@dataclass(frozen=True)
class Shown:
    """What a test shows a network, whoever trained it. Lengths in pixels.

    Attributes:
        crop: side of a crop.
        resize: side of the centre square that crops are cut from.
        scales: short sides of whole images, ascending; the middle one is that of ``dense``.
    """

    crop: int
    resize: int
    scales: tuple[int, ...] = ()


@dataclass(frozen=True)
class PretrainedClassifier(Pretrained):
    """A classifier that was not trained here, and what its tests show it."""

    shown: Shown


@dataclass(frozen=True, kw_only=True)
class Classification(Recipe):
    """One training of a classifier, fully described.

    Attributes:
        augmentation: how a training crop is made, and the lengths of the tests.
        optimiser: which parameters learn how fast.
        batch_size: images per step, over all workers together.
        test_scales: short sides in pixels of the protocols that test whole images, ascending; the
            middle one is that of ``dense``.
        drop_last: an epoch is floor(images / batch_size) steps; else every image is seen, the last
            ones in a smaller batch.
        shuffle_buffer: None for a uniformly random order of all images; else shards are visited
            whole, in random order, and an image moves by fewer than `shuffle_buffer` places.
        start_steps: after this many steps the loss must have fallen below ln(classes), or the run stops.
        auxiliary_weight: the weight of an auxiliary head's loss (Szegedy 2014, section 5: 0.3).
        label_smoothing: share of the target that is spread evenly over all classes.
        filter_rms: after every step, filters of a larger root mean square are scaled back to it
            (Zeiler and Fergus 2013, section 3: 0.1).
        batch_norm_images: batch normalisation takes its statistics over this many images, in which a worker
            computes its part of a batch piece by piece; None for all of a worker's images at once.
        freeze_norm_from: from this epoch on batch normalisation keeps its running averages and normalises by
            them; None for never.
        true_statistics: after the last epoch batch normalisation's averages are taken anew, with equal
            weight, over this many training images (He 2015's released models); None to keep the running
            averages.
        average_from: from this epoch on the mean of the weights after each step is kept, tested and
            saved (Polyak averaging; Szegedy 2014, section 6).
        loss: what is minimised.
        grey: the network sees one channel, in which black and white pixels have these two values; None for
            three channels on the 0-255 scale less the mean.
    """

    known_protocols: ClassVar[tuple[str, ...]] = get_args(TestProtocol)

    augmentation: Augmentation
    optimiser: Optimiser
    batch_size: int
    start_steps: int
    test_scales: tuple[int, ...] = ()
    drop_last: bool = True
    shuffle_buffer: int | None = None
    auxiliary_weight: float = 0.0
    label_smoothing: float = 0.0
    filter_rms: float | None = None
    average_from: float | None = None
    batch_norm_images: int | None = field(default=None, metadata={"since": 2})
    freeze_norm_from: int | None = field(default=None, metadata={"since": 2})
    true_statistics: int | None = field(default=None, metadata={"since": 2})
    loss: Loss = field(default=CrossEntropy(), metadata={"since": 2})
    grey: tuple[float, float] | None = field(default=None, metadata={"since": 2})

    def __post_init__(self) -> None:
        if self.label_smoothing and not isinstance(self.loss, CrossEntropy):
            raise ValueError("label smoothing is for cross-entropy alone")
        images = self.batch_norm_images
        if images is not None and (self.batch_size % images or not self.drop_last):
            raise ValueError(
                f"a batch of {self.batch_size} is not made of pieces of {images} images"
            )

    def at_once(self, execution: Execution, workers: int) -> int | None:
        """See `Recipe.at_once`: batch normalisation takes its statistics over what is computed at once."""
        images = self.batch_norm_images
        if images is None:
            return execution.micro_batch
        if execution.micro_batch not in (None, images):
            raise PipelineError(
                f"micro-batches of {execution.micro_batch} images would change this recipe, whose batch "
                f"normalisation takes its statistics over {images}",
                "omit --micro-batch",
            )
        pieces = self.batch_size // images
        if pieces % workers:
            fitting = ", ".join(str(n) for n in range(1, pieces + 1) if pieces % n == 0)
            raise PipelineError(
                f"{workers} workers cannot share batches of {self.batch_size} images in pieces of {images}, "
                f"over which batch normalisation takes its statistics",
                f"use a number of workers out of {fitting}",
            )
        return images

    @property
    def shown(self) -> Shown:
        """What its tests show the network."""
        return Shown(self.augmentation.crop, self.augmentation.resize, self.test_scales)
