"""evaluate: a trained network's top-1 and top-5 error under a stated protocol, in percent.

Each worker predicts its part of the validation set; `score` puts the parts together and asserts that
every validation image is there exactly once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.weights import load_network
from stages.errors import PipelineError
from stages.job import RunFolder
from stages.load.augment.colour import Normalise
from stages.load.loader import Images, evaluation_batches
from stages.load.samples import Dataset
from stages.measurement import Evaluation, Interval
from stages.parallel import ALONE, Part
from stages.storage import write_atomically
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification, PretrainedClassifier, Shown
from stages.tasks.task import Net

TOP = 5
# Views of a batch are tested together; so many images' views fit beside the network in a few GB.
VIEWS_AT_ONCE = 500


@dataclass(frozen=True)
class Prediction:
    """What a network or an ensemble makes of its part of a split.

    Attributes:
        indices: int64, (n,), places in the split.
        labels: int64, (n,).
        probabilities: float32, (n, classes), each row the mean over the image's views.
    """

    indices: Tensor
    labels: Tensor
    probabilities: Tensor


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Images,
    normalise: Callable[[Tensor], Tensor],
    views: Views,
    *,
    part: Part = ALONE,
    processes: int = 0,
    device: torch.device,
) -> Prediction:
    """The probabilities that a network gives to its part of a split.

    The probabilities of an image's views are averaged (Krizhevsky 2012, section 4.1). Where a view is a
    whole image, the scores at its places are averaged before the softmax (Simonyan and Zisserman 2014,
    section 3.2): by the network's method ``dense``, or by the network itself where it has none.
    """
    model.eval()
    network = getattr(model, "dense", model) if "dense" in views.protocol else model
    indices, labels, probabilities = [], [], []
    for batch in evaluation_batches(
        images, views, at_once=VIEWS_AT_ONCE, part=part, processes=processes
    ):
        mean = torch.zeros((), device=device)
        for shown, weight in zip(batch.views, views.weights, strict=True):
            shown = shown.to(device, non_blocking=True)
            if views.mirrored:
                shown = torch.cat([shown, shown.flip(-1)], dim=1)
            scores = network(normalise(shown).flatten(0, 1)).float()
            if scores.dim() == 4:
                scores = scores.mean(dim=(2, 3))
            shares = scores.softmax(dim=1).unflatten(0, shown.shape[:2])
            mean = mean + weight * shares.sum(dim=1)
        indices.append(batch.indices)
        labels.append(batch.labels)
        probabilities.append(mean.cpu())
    if not indices:  # more workers than images
        none = torch.empty(0, dtype=torch.int64)
        return Prediction(none, none, torch.empty(0, TOP))
    return Prediction(torch.cat(indices), torch.cat(labels), torch.cat(probabilities))


def fuse(predictions: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """The weighted mean of several networks' probabilities for the same images.

    Krizhevsky 2012, section 4.1, and all later ensembles average probabilities, not scores.
    """
    mean = torch.zeros(())
    for prediction, weight in zip(predictions, weights, strict=True):
        mean = mean + weight / sum(weights) * prediction.probabilities
    return Prediction(predictions[0].indices, predictions[0].labels, mean)


def answers(prediction: Prediction) -> pa.Table:
    """The first answers, a row an image.

    Returns:
        index (place in the split), label, answers (up to five classes, best first), probabilities
        (theirs).
    """
    width = min(TOP, prediction.probabilities.shape[1])
    best = prediction.probabilities.topk(width, dim=1)

    def lists(rows: Tensor, kind: pa.DataType) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel().numpy(), kind), width)

    return pa.table(
        {
            "index": pa.array(prediction.indices.numpy(), pa.int64()),
            "label": pa.array(prediction.labels.numpy(), pa.int64()),
            "answers": lists(best.indices, pa.int32()),
            "probabilities": lists(best.values, pa.float32()),
        }
    )


def evaluate_part(
    nets: Sequence[Net],
    dataset_root: Path,
    protocol: str,
    *,
    part: Part = ALONE,
    processes: int = 0,
    device: torch.device | None = None,
) -> pa.Table:
    """Load trained weights and answer for one part of the validation set (see `answers`).

    Args:
        nets: one network, or an ensemble's.
        dataset_root: a data set folder.
        protocol: how each network is tested.
        part: which slice of the split.
        processes: loader processes.
        device: the first GPU or the CPU unless given.

    Raises:
        PipelineError: weights that cannot be loaded.
    """
    device = device or default_device()
    dataset = Dataset(dataset_root)
    predictions = []
    for net in nets:
        model, normalise = _open(net, dataset, device)
        views = Views.of(_shown(net), protocol)
        predictions.append(
            predict(
                model,
                Images.to_view(dataset.samples("val"), views),
                normalise,
                views,
                part=part,
                processes=processes,
                device=device,
            )
        )
    return answers(fuse(predictions, [net.weight for net in nets]))


def _shown(net: Net) -> Shown:
    assert isinstance(net.origin, Classification | PretrainedClassifier)
    return net.origin.shown


def _open(
    net: Net, dataset: Dataset, device: torch.device
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    if isinstance(net.origin, PretrainedClassifier):
        from stages.tasks.classification.pretrained import open_network

        return open_network(net.origin.name, net.weights, dataset.info.classes, device)
    assert isinstance(net.origin, Classification)
    assert net.weights is not None
    try:
        model, provenance = load_network(net.weights)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"the trained weights cannot be loaded: {error}",
            "train again with --force train, or name a file that this project wrote",
        ) from error
    own = [item.synset for item in dataset.info.classes]
    if list(provenance.classes) != own:
        raise PipelineError(
            f"{net.weights} tells {len(provenance.classes)} classes apart, and not those "
            f"{len(own)} of the data set",
            "test it on the data set that it was trained on",
        )
    return model.to(device), Normalise(dataset, net.origin.augmentation, device)


def score(
    parts: Sequence[pa.Table], dataset_root: Path, protocol: str, folder: RunFolder
) -> Evaluation:
    """Put the parts' answers together, count the errors, and write both to ``folder``.

    Writes ``PROTOCOL.parquet`` (a row an image, with its key) and then ``PROTOCOL.json``.

    Raises:
        PipelineError: an image was answered for more than once, or not at all.
    """
    samples = Dataset(dataset_root).samples("val")
    # A worker without images does not know how many answers the others gave to each of theirs.
    answered = [part for part in parts if len(part)]
    table = pa.concat_tables(answered).sort_by("index")
    counted = table["index"].to_numpy()
    if not np.array_equal(counted, np.arange(len(samples))):
        raise PipelineError(
            f"{len(counted)} answers for {len(samples)} validation images, "
            f"{len(np.unique(counted))} of them distinct",
            "this is a fault of the program, not of the data; please report it",
        )
    right = hits(table)
    wrong = {"error_top1": ~right[:, 0], "error_top5": ~right.any(axis=1)}
    evaluation = Evaluation(
        protocol,
        len(table),
        {metric: error_percent(int(each.sum()), len(table)) for metric, each in wrong.items()},
    )
    folder.evaluations.mkdir(parents=True, exist_ok=True)
    table = table.add_column(0, "key", pa.array(samples.keys))
    pq.write_table(table, folder.predictions(protocol))
    write_atomically(folder.evaluation(protocol), evaluation.to_json())
    return evaluation


def hits(table: pa.Table) -> NDArray[np.bool_]:
    """Which of each image's answers is right, (images, answers), from what `predict` returned."""
    answers = table["answers"].combine_chunks()
    flat: NDArray[np.int32] = answers.flatten().to_numpy()
    right: NDArray[np.bool_] = (
        flat.reshape(len(table), answers.type.list_size) == table["label"].to_numpy()[:, None]
    )
    return right


def read_evaluation(folder: RunFolder, protocol: str) -> Evaluation | None:
    """What an earlier `score` wrote, or None."""
    path = folder.evaluation(protocol)
    return Evaluation.from_json(path.read_text()) if path.is_file() else None


def error_percent(errors: int, n: int) -> Interval:
    """``errors`` of ``n`` in percent, with the Wilson interval at 95 %."""
    from scipy.stats import binomtest  # a second of import, needed once a run

    interval = binomtest(errors, n).proportion_ci(0.95, method="wilson")
    return Interval(100 * errors / n, 100 * float(interval.low), 100 * float(interval.high))


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
