"""Mean image, channel means and principal components of training pixels.

All sums are whole numbers, so they are the same in whatever order and by however many workers they are
added up.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.dataset import Statistics
from stages.errors import PipelineError
from stages.parallel import ParallelMap
from stages.shard.write import WORK
from stages.storage import Folder

# The shards' order is random, so the first images are a fair sample; for ILSVRC's 1.28 million they leave
# the mean of a pixel within about 0.7 grey levels.
SAMPLE = 10_000
MEAN_IMAGE_SIDE = 256
_IMAGES_PER_TASK = 500


@dataclass(frozen=True)
class _Task:
    folder: Folder
    spans: pa.Table  # key, shard, offset, size
    side: int
    result: str  # file that the sums are kept in, for a run that is resumed


@dataclass(frozen=True)
class _Sums:
    images: int
    pixels: NDArray[np.int64]  # (3, side, side)
    products: NDArray[np.int64]  # (3, 3)


def pixel_statistics(
    folder: Folder,
    manifest: pa.Table,
    pmap: ParallelMap,
    progress: Callable[[int, int], None],
) -> tuple[Statistics, NDArray[np.float32]]:
    """Statistics of the centre squares of the first `SAMPLE` training images.

    Args:
        folder: with the shards.
        manifest: all rows.
        pmap: does the work.
        progress: called with how many images are done, and how many there are.

    Returns:
        The statistics, and the mean image (3, side, side); side is 256 or, where that is smaller, the
        median of the short sides.

    Raises:
        PipelineError: there is no training image, or one does not decode.
    """
    train = manifest.filter(pc.field("split") == "train").slice(0, SAMPLE)
    if not len(train):
        raise PipelineError("no training image is usable", f"see {folder}/rejects.parquet")
    short_sides = np.minimum(train["width"].to_numpy(), train["height"].to_numpy())
    side = min(MEAN_IMAGE_SIDE, int(np.median(short_sides)))
    spans = train.select(["key", "shard", "offset", "size"])
    tasks = [
        _Task(folder, spans.slice(start, _IMAGES_PER_TASK), side, f"{WORK}/sums-{start:06d}.npz")
        for start in range(0, len(spans), _IMAGES_PER_TASK)
    ]
    images = 0
    pixels = np.zeros((3, side, side), np.int64)
    products = np.zeros((3, 3), np.int64)
    for sums in pmap(_sum, tasks):
        images += sums.images
        pixels += sums.pixels
        products += sums.products
        progress(images, len(spans))
    mean = pixels.sum(axis=(1, 2)) / (images * side * side)
    covariance = products / (images * side * side) - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1]
    statistics = Statistics(
        images=images,
        mean=tuple(mean.tolist()),
        eigenvalues=tuple(values[order].tolist()),
        eigenvectors=tuple(tuple(vectors[:, i].tolist()) for i in order),
    )
    return statistics, (pixels / images).astype(np.float32)


def _sum(task: _Task) -> _Sums:
    """Sums over some images, or what an earlier run saved. Runs in a worker."""
    if not task.folder.exists(task.result):
        sums = _add_up(task)
        packed = io.BytesIO()
        np.savez(packed, pixels=sums.pixels, products=sums.products)
        task.folder.write_atomic(task.result, packed.getvalue())
        return sums
    saved = np.load(io.BytesIO(task.folder.read(task.result)), allow_pickle=False)
    return _Sums(len(task.spans), saved["pixels"], saved["products"])


def _add_up(task: _Task) -> _Sums:
    # Here and not above: torch takes seconds to import, and writing shards does not need it.
    from stages.load.decode import centre_square, decode

    pixels = np.zeros((3, task.side, task.side), np.int64)
    products = np.zeros((3, 3), np.int64)
    for row in task.spans.to_pylist():
        data = task.folder.read(row["shard"], row["offset"], row["size"])
        try:
            image = decode(data, row["key"], at_least=task.side)
        except PipelineError as error:
            raise PipelineError(
                error.problem, "delete the data set and make it again with --check-pixels"
            ) from error
        square = centre_square(image, task.side).numpy()
        pixels += square
        # Exact in float64: sums of whole numbers far below 2^53.
        flat = square.reshape(3, -1).astype(np.float64)
        products += (flat @ flat.T).astype(np.int64)
    return _Sums(len(task.spans), pixels, products)
