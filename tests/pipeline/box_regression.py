"""A task that the product does not have: to say where the object is, by regression of its box.

It stands here to show what a new task takes: a kind of recipe, a learner, the five verbs, a metric, a paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import models
from models.registry import register
from models.weights import Provenance, load_network, save_weights
from stages.claim import Arm, Claim, PublishedEffect
from stages.execution import Execution
from stages.job import Cost, OnEpoch, TrainJob, TrainResult
from stages.load import order
from stages.load.images import Images
from stages.load.loader import load, steps_per_epoch
from stages.load.samples import Dataset, Samples
from stages.measurement import Interval, published
from stages.metrics import Metric
from stages.paper import Paper
from stages.parallel import Part, this_worker
from stages.recipe import MomentumSGD, Optimiser, ParameterGroup, Recipe, Steps
from stages.tasks.task import Net
from stages.training.descent import Descent, Forward
from stages.training.initialisation import PairedInitialisation
from stages.training.loop import fit

SIDE = 32
OVERLAP = Metric(
    "mean_iou", "mean overlap", "overlap", "overlap", better="higher", searched_by="mean_iou"
)

FOUND = Metric(
    "objects_found", "objects found", "found", "objects found", better="higher", per_item=True
)


@dataclass(frozen=True, kw_only=True)
class BoxRegression(Recipe):
    """One training of a network that gives the corners of the object's box, in shares of the side."""

    known_protocols: ClassVar[tuple[str, ...]] = ("whole_image",)

    optimiser: Optimiser
    batch_size: int


@register("box_net")
class BoxNet(nn.Module):
    """(N, 3, 32, 32) on the 0-255 scale to (N, 4): xmin, ymin, xmax, ymax from 0 to 1."""

    def __init__(self, num_classes: int = 0, *, width: int = 8) -> None:
        super().__init__()
        self.input_size = SIDE
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (SIDE // 4) ** 2, 4),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.layers(x / 127.5 - 1)


class BoxBatch(NamedTuple):
    """One worker's part of a global batch: images (n, 3, side, side), boxes (n, 4)."""

    images: Tensor
    boxes: Tensor
    global_size: int

    @property
    def size(self) -> int:
        return len(self.images)

    def piece(self, start: int, count: int) -> "BoxBatch":
        part = slice(start, start + count)
        return self._replace(images=self.images[part], boxes=self.boxes[part])

    def stand_in(self) -> "BoxBatch":
        return self._replace(
            images=self.images.new_zeros(1, 3, SIDE, SIDE), boxes=self.boxes.new_zeros(1, 4)
        )

    def to(self, device: torch.device) -> "BoxBatch":
        return self._replace(images=self.images.to(device), boxes=self.boxes.to(device))


def boxes_of(samples: Samples) -> Tensor:
    """(samples, 4): each image's object, in shares of its sides; the embedded images have one each."""
    sides = torch.from_numpy(samples.short_sides.astype(np.float32))[:, None]
    corners = np.stack([objects.boxes[0] for objects in samples.objects])
    return torch.from_numpy(corners.astype(np.float32)) / sides


class BoxBatches:
    """Makes batch k when it is asked for."""

    def __init__(self, images: Images, boxes: Tensor, batches: Sequence[Any], part: Part) -> None:
        self.images, self.boxes, self.batches, self.part = images, boxes, batches, part

    def __getitem__(self, k: int) -> BoxBatch:
        indices = self.part.slice_of(self.batches[k]).tolist()
        pixels = list(self.images.take(indices))
        shape = (0, 3, SIDE, SIDE)
        stacked = torch.stack(pixels) if pixels else torch.empty(shape, dtype=torch.uint8)
        return BoxBatch(stacked, self.boxes[indices], len(self.batches[k]))


class BoxLearner:
    """See `stages.training.loop.Learner`."""

    def __init__(
        self, job: TrainJob, recipe: BoxRegression, device: torch.device, part: Part
    ) -> None:
        self.job, self.recipe, self.device, self.part = job, recipe, device, part
        dataset = Dataset(job.dataset)
        samples = dataset.samples("train")
        self.images, self.boxes = Images(samples, square=SIDE), boxes_of(samples)
        self.val = Images(dataset.samples("val"), square=SIDE), boxes_of(dataset.samples("val"))
        self.epochs = recipe.epochs
        self.steps_per_epoch = steps_per_epoch(len(samples), recipe.batch_size)
        self.items_per_epoch = self.steps_per_epoch * recipe.batch_size
        with PairedInitialisation(job.seed):
            model = models.create(recipe.model, num_classes=0, **recipe.knobs).to(device)
        self.descent = Descent(
            model, recipe.optimiser, epochs=recipe.epochs, part=part, execution=job.execution
        )

    def batches(self, epoch: int, first_step: int) -> Iterator[BoxBatch]:
        self.descent.begin_epoch()
        visits = order.indexed(self.job.seed, epoch, len(self.images))
        size = self.recipe.batch_size
        batches = [
            visits[k * size : (k + 1) * size] for k in range(first_step, self.steps_per_epoch)
        ]
        made = BoxBatches(self.images, self.boxes, batches, self.part)
        return load(made.__getitem__, len(batches), self.images)

    def step(self, batch: BoxBatch, step: int) -> tuple[Tensor, Mapping[str, float]]:
        def loss(network: Forward, piece: BoxBatch) -> tuple[Tensor, Tensor]:
            distance = (network(piece.images.float()) - piece.boxes).abs().sum()
            return distance, distance.detach().double()[None]

        sums, rate = self.descent.step(batch, loss, step / self.steps_per_epoch)
        return sums, {"rate": rate}

    def check(self, steps: range, loss: float) -> None:
        pass

    def validate(self, epoch: int, totals: Sequence[float]) -> Mapping[str, float | str]:
        images, boxes = self.val
        overlaps = overlap(answer(self.descent.tested, images), boxes)
        return {
            "protocol": "whole_image",
            OVERLAP.name: 100 * float(overlaps.mean()),
            "n": len(overlaps),
        }

    def state(self) -> dict[str, Any]:
        return self.descent.state()

    def load(self, state: Mapping[str, Any]) -> None:
        self.descent.load(state)

    def save(self, path: Path) -> None:
        recipe = self.recipe
        provenance = Provenance(
            network=recipe.model, classes=[], knobs=recipe.knobs, recipe=recipe.id
        )
        save_weights(self.descent.tested, path, provenance)


@torch.inference_mode()
def answer(model: nn.Module, images: Images, indices: Sequence[int] | None = None) -> Tensor:
    """The boxes that a network gives, (n, 4)."""
    wanted = range(len(images)) if indices is None else indices
    model.eval()
    return model(torch.stack([images[index] for index in wanted]).float())


def overlap(answers: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union, (n,)."""
    low, high = (
        torch.maximum(answers[:, :2], boxes[:, :2]),
        torch.minimum(answers[:, 2:], boxes[:, 2:]),
    )
    both = (high - low).clamp(min=0).prod(dim=1)
    areas = [
        (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(dim=1) for corners in (answers, boxes)
    ]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-9)


def found_items(predictions: pa.Table) -> NDArray[np.bool_]:
    """Whose box overlaps the true one by more than a half, (items,)."""
    found: NDArray[np.bool_] = predictions["overlap"].to_numpy() > 0.5
    return found


def mean_of(figures: NDArray[np.float64]) -> Interval:
    mean, error = float(figures.mean()), float(figures.std(ddof=1) / len(figures) ** 0.5)
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error)


class BoxTask:
    """See `stages.tasks.task.Task`."""

    def train(
        self, job: TrainJob, device: torch.device, on_epoch: OnEpoch | None = None
    ) -> TrainResult:
        assert isinstance(job.recipe, BoxRegression)
        part = this_worker()
        return fit(BoxLearner(job, job.recipe, device, part), job, part, on_epoch)

    def keys(self, dataset: Dataset, protocol: str) -> Sequence[str]:
        return dataset.samples("val").keys

    def predict(
        self,
        nets: Sequence[Net],
        dataset: Dataset,
        protocol: str,
        part: Part,
        *,
        processes: int,
        device: torch.device,
    ) -> pa.Table:
        samples = dataset.samples("val")
        indices = part.slice_of(np.arange(len(samples)))
        assert nets[0].weights is not None
        model, _ = load_network(nets[0].weights)
        answers = answer(model, Images(samples, square=SIDE), indices.tolist())
        overlaps = overlap(answers, boxes_of(samples)[torch.from_numpy(indices)])
        return pa.table(
            {"index": indices, "box": pa.array(answers.tolist()), "overlap": overlaps.tolist()}
        )

    def score(
        self, predictions: pa.Table, dataset: Dataset, protocol: str
    ) -> Mapping[str, Interval]:
        overlaps = 100 * predictions["overlap"].to_numpy()
        return {
            OVERLAP.name: mean_of(overlaps),
            FOUND.name: mean_of(100.0 * found_items(predictions)),
        }

    def cost(
        self,
        recipe: Recipe,
        items: int,
        classes: int,
        device: torch.device | str,
        execution: Execution,
    ) -> Cost:
        assert isinstance(recipe, BoxRegression)
        return Cost(
            steps=recipe.epochs * steps_per_epoch(items, recipe.batch_size),
            batch_size=recipe.batch_size,
            seconds=1e-3,
            parameters=1000,
            multiply_adds=1000,
            activation_bytes=1000,
            device=str(device),
            measured=False,
        )


RECIPE = BoxRegression(
    model="box_net",
    epochs=12,
    protocols=("whole_image",),
    optimiser=MomentumSGD(
        (ParameterGroup(".*", Steps(((0, 0.01),)), weight_decay=0.0),), rate="outside"
    ),
    batch_size=16,
)
CLAIM = Claim(
    paper="boxes",
    id="training",
    statement="A trained network finds the object better than one that saw each image once.",
    source="nowhere",
    with_it=Arm("trained"),
    without=Arm("one epoch", changes={"epochs": 1}),
    metric=OVERLAP.name,
    published=(PublishedEffect(8.0, "the embedded images", "whole image", "nowhere"),),
    seeds=3,
)
CLAIM_FOUND = replace(
    CLAIM, id="found", metric=FOUND.name, statement="It finds more objects.", published=()
)
PAPER = Paper(
    name="boxes",
    year=2012,
    title="Where is it?",
    system="Boxes",
    headline="BoxNet",
    built_of="boxes",
    hardware="none",
    recipes={
        "toy": {"boxes": RECIPE},
        "mini": {"boxes": RECIPE},
        "paper": {"boxes": replace(RECIPE, epochs=7)},
    },
    published=(
        published("BoxNet", "whole_image", recipe="boxes", source="nowhere", mean_iou=58.5),
    ),
    claims=(CLAIM, CLAIM_FOUND),
)
