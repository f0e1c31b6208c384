"""The metrics, and the benchmarks on which they are comparable: two tables.

Pure data, so that tests, the tracking store, the claims, the ledger and the report read the same rows. A
task that measures something new adds its rows here; everything else follows from them.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One kind of figure.

    Attributes:
        name: its key in files and in the tracking store.
        words: what people call it, e.g. ``"top-5 error"``.
        head: the same as a column's header, e.g. ``"top-5"``.
        quantity: what is measured, without the variant, e.g. ``"error"``.
        unit: ``%``, or a word such as ``epochs``.
        better: whether lower or higher figures are better.
        split: ``val`` if a test measures it, ``train`` if the training itself does.
        per_item: whether it is the share of items that were wrong or correct, so that two networks can be
            compared item by item.
        step: the smallest difference between two figures, if it is not one item's; 0 if there is none.
        top: for an error, how many predictions count; 0 for other metrics.
        searched_by: the metric by which a search selects learning rates for this one; "" for itself.
        reaches: for one that counts epochs: the metric of the training, and the figure that it has to reach.
    """

    name: str
    words: str
    head: str
    quantity: str
    unit: str = "%"
    better: Literal["lower", "higher"] = "lower"
    split: Literal["val", "train"] = "val"
    per_item: bool = False
    step: float = 0.0
    top: int = 0
    searched_by: str = ""
    reaches: tuple[str, float] | None = None

    @property
    def sign(self) -> int:
        """The factor that makes figure(without) - figure(with) a gain: 1, or -1 if higher is better."""
        return 1 if self.better == "lower" else -1

    @property
    def worst(self) -> float:
        """A figure that every other one is better than."""
        return self.sign * math.inf

    @property
    def difference(self) -> str:
        """The unit of a difference between two figures, in words."""
        return f"points of {self.quantity}" if self.unit == "%" else self.unit

    @property
    def gain(self) -> str:
        """An effect in words; it is positive where the thing claimed helps."""
        return f"{self.difference} {'saved' if self.better == 'lower' else 'gained'}"

    def resolution(self, n: int) -> float:
        """The smallest difference between two figures for ``n`` items."""
        return 100 / n if self.per_item else self.step

    def chance(self, num_classes: int) -> float | None:
        """The error of guessing, in percent, with equally many items per class; None for other metrics."""
        return max(0.0, 100 * (1 - self.top / num_classes)) if self.top else None


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _table(
    Metric("error_top1", "top-1 error", "top-1", "error", per_item=True, top=1),
    Metric(
        "error_top5",
        "top-5 error",
        "top-5",
        "error",
        per_item=True,
        top=5,
        searched_by="error_top1",
    ),
    # The running error over the last epoch of the training, on augmented images.
    Metric("train_error_top1", "training error", "training", "training error", split="train"),
    # All epochs of the run if the error never gets that low, which can only understate a difference.
    # Krizhevsky 2012, Fig. 1: rates were "chosen independently to make training as fast as possible".
    Metric(
        "epochs_to_train_error_25",
        "epochs to a training error of 25 %",
        "epochs",
        "training time",
        unit="epochs",
        split="train",
        step=1.0,
        searched_by="train_error_top1",
        reaches=("train_error_top1", 25.0),
    ),
)


@dataclass(frozen=True)
class Benchmark:
    """A data set and split on which figures are comparable.

    Attributes:
        name: its key.
        words: what people call it.
        data: the role of the data set whose validation split it is (see `stages.recipe.Recipe`); "" if its
            labels were never released, so that no run can be tested on it.
        classes: the number of classes.
        items: the number of items in the split.
        class_names: the keys of the classes; empty if only their number is checked.
    """

    name: str
    words: str
    data: str
    classes: int
    items: int
    class_names: frozenset[str] = frozenset()

    @property
    def split(self) -> str:
        """``val`` or ``test``."""
        return self.name.rpartition("-")[2]


_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
IMAGENET = Benchmark("ilsvrc2012-val", "ILSVRC-2012 validation", "imagenet", 1000, 50_000)
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        IMAGENET,
        Benchmark("ilsvrc2012-test", "ILSVRC-2012 test", "", 1000, 100_000),
        Benchmark("ilsvrc2010-test", "ILSVRC-2010 test", "imagenet2010", 1000, 150_000),
        Benchmark(
            "cifar10-test", "CIFAR-10 test", "cifar10", 10, 10_000, frozenset(_CIFAR10.split())
        ),
        Benchmark("mnist-test", "MNIST test", "mnist", 10, 10_000, frozenset("0123456789")),
    )
}


def benchmark_of(data: str, class_names: Collection[str]) -> str:
    """The benchmark that a recipe's figures would count for; "" if there is none.

    Args:
        data: the role of the recipe's data set.
        class_names: the keys of the data set's classes. A subset of a benchmark's classes counts as that
            benchmark; the comparison of figures says what is missing. Who names the role vouches for the
            images: Fashion-MNIST's classes have the same keys as MNIST's.
    """
    for benchmark in BENCHMARKS.values():
        names = benchmark.class_names
        if benchmark.data == data and (not names or names.issuperset(class_names)):
            return benchmark.name
    return ""
