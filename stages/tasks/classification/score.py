"""From a classifier's predictions, image by image, to its errors. Importing this module imports no torch.

A table of predictions has one row per image: its ``label``, ``answers`` (up to five classes, best first) and
``probabilities`` (theirs).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.measurement import Interval
from stages.metrics import METRICS

# At this many images at once the probabilities of a thousand classes take 16 MB.
_IMAGES_AT_ONCE = 4096
# What a test of a classifier measures.
_MEASURED = ("error_top1", "error_top5")


def errors(predictions: pa.Table) -> Mapping[str, Interval]:
    """The top-1 and top-5 error in percent."""
    n = len(predictions)
    correct = {metric: int(correct_images(predictions, metric).sum()) for metric in _MEASURED}
    return {metric: error_percent(n - count, n) for metric, count in correct.items()}


def error_percent(errors: int, n: int) -> Interval:
    """``errors`` of ``n`` in percent, with the Wilson interval at 95 %."""
    from scipy.stats import binomtest  # a second of import, needed once a run

    interval = binomtest(errors, n).proportion_ci(0.95, method="wilson")
    return Interval(100 * errors / n, 100 * float(interval.low), 100 * float(interval.high))


def correct_answers(
    predictions: pa.Table, answers: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which of each image's answers is its label, (images, answers).

    Args:
        predictions: a table of them.
        answers: others than the table's own.
    """
    if answers is None:
        answers = _answers(predictions)
    correct: NDArray[np.bool_] = answers == predictions["label"].to_numpy()[:, None]
    return correct


def correct_images(
    predictions: pa.Table, metric: str, answers: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """The images that an error does not count: their label is among the first answers, (images,).

    Args:
        predictions: a table of them.
        metric: an error, which says how many answers count.
        answers: others than the table's own.
    """
    counted = correct_answers(predictions, answers)[:, : METRICS[metric].top]
    return np.any(counted, axis=1)


def mean_answers(predictions: Sequence[pa.Table]) -> NDArray[np.int64]:
    """The answers of several networks to the same images, by the mean of their probabilities.

    Of each network only its best five are kept, the rest of its probabilities counts as zero.
    """
    answers = np.stack([_answers(table) for table in predictions])
    probabilities = np.stack(
        [_matrix(table, "probabilities").astype(np.float64) for table in predictions]
    )
    images, width = answers.shape[1:]
    best = []
    for start in range(0, images, _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        summed = np.zeros((len(answers[0, part]), int(answers.max()) + 1))
        row = np.arange(len(summed))[:, None]
        for classes, share in zip(answers[:, part], probabilities[:, part], strict=True):
            summed[row, classes] += share  # a network names a class once
        best.append(np.argsort(-summed, axis=1, kind="stable")[:, :width])
    return np.concatenate(best)


def _answers(predictions: pa.Table) -> NDArray[np.int64]:
    return _matrix(predictions, "answers").astype(np.int64)


def _matrix(predictions: pa.Table, column: str) -> NDArray[np.generic]:
    lists = predictions[column].combine_chunks()
    flat: NDArray[np.generic] = lists.flatten().to_numpy()
    return flat.reshape(len(predictions), lists.type.list_size)
