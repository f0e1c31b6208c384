"""Classification: which of some classes an image shows."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.describe import layer_table
from stages.execution import Execution
from stages.job import Cost, OnEpoch, TrainJob, TrainResult
from stages.load.loader import steps_per_epoch
from stages.load.samples import Dataset
from stages.measurement import Interval
from stages.parallel import Part, this_worker
from stages.recipe import Recipe
from stages.tasks.classification import score
from stages.tasks.classification.inputs import channels_of
from stages.tasks.classification.learner import ClassificationLearner
from stages.tasks.classification.predict import predict_nets
from stages.tasks.classification.recipe import Classification
from stages.tasks.task import Net
from stages.training.cost import Workload, from_data_sheet, measure
from stages.training.loop import fit

# The costs that this process has worked out, by what they depend on.
_COSTS: dict[Hashable, Cost] = {}


class ClassificationTask:
    """See `stages.tasks.task.Task`."""

    def train(
        self, job: TrainJob, device: torch.device, on_epoch: OnEpoch | None = None
    ) -> TrainResult:
        """See `Task`."""
        assert isinstance(job.recipe, Classification)
        part = this_worker()
        return fit(ClassificationLearner(job, job.recipe, device, part), job, part, on_epoch)

    def keys(self, dataset: Dataset, protocol: str) -> Sequence[str]:
        """See `Task`: the validation images."""
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
        """See `Task`; the other columns are those of `stages.tasks.classification.score`."""
        return predict_nets(nets, dataset, protocol, part, processes=processes, device=device)

    def score(
        self, predictions: pa.Table, dataset: Dataset, protocol: str
    ) -> Mapping[str, Interval]:
        """See `Task`: the top-1 and top-5 error."""
        return score.errors(predictions)

    def cost(
        self,
        recipe: Recipe,
        items: int,
        classes: int,
        device: torch.device | str,
        execution: Execution,
    ) -> Cost:
        """See `Task`; what an item costs is key once for all recipes that have the network and input."""
        assert isinstance(recipe, Classification)
        side = recipe.augmentation.crop
        steps = recipe.epochs * steps_per_epoch(items, recipe.batch_size, recipe.drop_last)
        network = (recipe.model, repr(sorted(recipe.knobs.items())), side, channels_of(recipe))
        at_once = recipe.at_once(execution, 1)
        key = (*network, classes, str(device), execution, at_once)
        if key in _COSTS:
            return replace(_COSTS[key], steps=steps, batch_size=recipe.batch_size)
        # Nothing is computed with a data sheet's device, so that no memory for weights is needed.
        create = models.create_on_meta if isinstance(device, str) else models.create
        model = create(recipe.model, classes, **recipe.knobs)

        def inputs(images: int, where: torch.device) -> Tensor:
            shape = (images, channels_of(recipe), side, side)
            # On the meta device a draw costs seconds, to import a compiler.
            draw = torch.empty if where.type == "meta" else torch.randn
            return draw(shape, device=where)

        def loss(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
            heads = outputs if isinstance(outputs, tuple) else (outputs,)
            labels = torch.randint(classes, heads[0].shape[:1], device=heads[0].device)
            return torch.stack([F.cross_entropy(scores, labels) for scores in heads]).sum()

        workload = Workload(
            model=model,
            optimiser=recipe.optimiser,
            epochs=recipe.epochs,
            steps=steps,
            batch_size=recipe.batch_size,
            at_once=at_once,
            multiply_adds=layer_table(model, side).multiply_adds,
            inputs=inputs,
            loss=loss,
        )
        if isinstance(device, str):
            _COSTS[key] = from_data_sheet(workload, device)
        else:
            _COSTS[key] = measure(workload, device, execution)
        return _COSTS[key]
