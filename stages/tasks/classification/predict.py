"""What trained networks make of the images of a test: probabilities, averaged over views and networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn

from models.weights import load_network
from stages.errors import PipelineError
from stages.load.images import Images
from stages.load.samples import Dataset
from stages.parallel import ALONE, Part
from stages.tasks.classification.batches import evaluation_batches
from stages.tasks.classification.inputs import input_of
from stages.tasks.classification.pretrained import open_pretrained
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification, PretrainedClassifier
from stages.tasks.task import Net

TOP = 5
# Views of a batch are tested together; this many fit beside the network in a few GB.
VIEWS_AT_ONCE = 500


@dataclass(frozen=True)
class Subject:
    """A network to test.

    Attributes:
        model: images to scores.
        normalise: uint8 images to what the network expects.
    """

    model: nn.Module
    normalise: Callable[[Tensor], Tensor]


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
    """The probabilities that a network gives to its part of a split (see `predict_each`)."""
    (prediction,) = predict_each(
        [Subject(model, normalise)], images, views, part=part, processes=processes, device=device
    )
    return prediction


@torch.inference_mode()
def predict_each(
    subjects: Sequence[Subject],
    images: Images,
    views: Views,
    *,
    part: Part = ALONE,
    processes: int = 0,
    device: torch.device,
) -> list[Prediction]:
    """The probabilities that each of some networks gives to this worker's part of a split.

    The networks see the same views, so that these are decoded and cut once for all of them.

    The probabilities of an image's views are averaged (Krizhevsky 2012, section 4.1), or their scores where
    the protocol says so. Where a view is a whole image, the scores at its places are averaged first (Simonyan
    and Zisserman 2014, section 3.2): by the network's method ``dense``, or by the network itself where it has
    none.
    """
    for subject in subjects:
        subject.model.eval()
    indices: list[Tensor] = []
    labels: list[Tensor] = []
    probabilities: list[list[Tensor]] = [[] for _ in subjects]
    for batch in evaluation_batches(
        images, views, at_once=VIEWS_AT_ONCE, part=part, processes=processes
    ):
        means = [torch.zeros((), device=device) for _ in subjects]
        for shown, weight in zip(batch.views, views.weights, strict=True):
            shown = shown.to(device, non_blocking=True)
            if views.mirrored:
                shown = torch.cat([shown, shown.flip(-1)], dim=1)
            for place, subject in enumerate(subjects):
                means[place] = means[place] + weight * _summed(subject, shown, views)
        indices.append(batch.indices)
        labels.append(batch.labels)
        for rows, mean in zip(probabilities, means, strict=True):
            rows.append((mean.softmax(dim=1) if views.of_scores else mean).cpu())
    if not indices:  # more workers than images
        none = torch.empty(0, dtype=torch.int64)
        return [Prediction(none, none, torch.empty(0, TOP)) for _ in subjects]
    return [
        Prediction(torch.cat(indices), torch.cat(labels), torch.cat(rows)) for rows in probabilities
    ]


def _summed(subject: Subject, shown: Tensor, views: Views) -> Tensor:
    """A network's probabilities of each image, or its scores, summed over its views, (n, classes)."""
    model = subject.model
    network = model if views.same_size else getattr(model, "dense", model)
    scores = network(subject.normalise(shown).flatten(0, 1)).float()
    if scores.dim() == 4:
        scores = scores.mean(dim=(2, 3))
    outputs = scores if views.of_scores else scores.softmax(dim=1)
    summed: Tensor = outputs.unflatten(0, shown.shape[:2]).sum(dim=1)
    return summed


def fuse(predictions: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """The weighted mean of several networks' probabilities for the same images.

    Krizhevsky 2012, section 4.1, and all later ensembles average probabilities, not scores.
    """
    mean = torch.zeros(())
    for prediction, weight in zip(predictions, weights, strict=True):
        mean = mean + weight / sum(weights) * prediction.probabilities
    return Prediction(predictions[0].indices, predictions[0].labels, mean)


def prediction_table(prediction: Prediction) -> pa.Table:
    """The first answers, one row per image.

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


def predict_nets(
    nets: Sequence[Net],
    dataset: Dataset,
    protocol: str,
    part: Part,
    *,
    processes: int,
    device: torch.device,
) -> pa.Table:
    """The answers of a network, or of an ensemble, to its part of the validation set.

    Raises:
        PipelineError: weights that cannot be loaded, or that are of other classes.
    """
    samples = dataset.samples("val")
    views = [Views(protocol, _classifier(net).shown) for net in nets]
    predictions: dict[int, Prediction] = {}
    for same in dict.fromkeys(views):
        places = [place for place, each in enumerate(views) if each == same]
        subjects = [_open(nets[place], dataset, device) for place in places]
        several = predict_each(
            subjects, same.images(samples), same, part=part, processes=processes, device=device
        )
        predictions |= dict(zip(places, several, strict=True))
    in_order = [predictions[place] for place in range(len(nets))]
    return prediction_table(fuse(in_order, [net.weight for net in nets]))


def _classifier(net: Net) -> Classification | PretrainedClassifier:
    assert isinstance(net.origin, Classification | PretrainedClassifier)
    return net.origin


def _open(net: Net, dataset: Dataset, device: torch.device) -> Subject:
    classes = dataset.info.classes
    origin = _classifier(net)
    if isinstance(origin, PretrainedClassifier):
        return Subject(*open_pretrained(origin.name, net.weights, classes, device))
    assert net.weights is not None
    try:
        model, provenance = load_network(net.weights)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"the trained weights cannot be loaded: {error}",
            "train again with --force train, or name a file that this project wrote",
        ) from error
    dataset_synsets = [item.synset for item in classes]
    if list(provenance.classes) != dataset_synsets:
        raise PipelineError(
            f"{net.weights} was trained on {len(provenance.classes)} classes, which are not the data "
            f"set's {len(dataset_synsets)}",
            "test it on the data set that it was trained on",
        )
    return Subject(model.to(device), input_of(origin, dataset, device))
