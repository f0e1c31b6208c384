"""The training of a classifier: its crops, its loss, its validation, and when it did not take off."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from models.weights import Provenance, save_weights
from models.zfnet import renormalise_after_step
from stages.augmentation import PaddedSquare
from stages.execution import Execution
from stages.job import TrainingStopped, TrainJob
from stages.load.augment.crops import windows_of_padded
from stages.load.images import Images
from stages.load.loader import steps_per_epoch
from stages.load.samples import Dataset
from stages.parallel import ALONE, Part
from stages.tasks.classification.batches import Batch, training_batches
from stages.tasks.classification.inputs import input_of
from stages.tasks.classification.losses import summed_loss
from stages.tasks.classification.predict import predict, prediction_table
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from stages.tasks.classification.score import correct_answers
from stages.training.batch_statistics import freeze, take_true_statistics
from stages.training.descent import Descent, Forward, take_weights
from stages.training.initialisation import PairedInitialisation
from stages.training.loop import sum_over_workers

# A loss above this share of the chance level has not fallen below it.
STARTED = 0.99


class ClassificationLearner:
    """A classifier that learns; see `stages.training.loop.Learner`.

    Args:
        job: what to train.
        recipe: the job's.
        device: of this worker.
        part: this worker's place among all.

    Raises:
        PipelineError: this worker cannot read the data set.
        TrainingStopped: it is smaller than one batch; a GPU is missing; or the weights to start from do
            not fit.
    """

    def __init__(
        self, job: TrainJob, recipe: Classification, device: torch.device, part: Part
    ) -> None:
        self.job, self.recipe, self.device, self.part = job, recipe, device, part
        dataset = Dataset(job.dataset)
        self.classes = dataset.info.classes
        augmentation = recipe.augmentation
        self.views = Views("centre_crop", recipe.shown)
        self.train_images = Images.to_train(
            dataset.samples("train"), augmentation, _decoding_device(job.execution, device)
        )
        self.val_images = self.views.images(dataset.samples("val"))
        self.normalise = input_of(recipe, dataset, device)
        images = len(self.train_images)
        self.epochs = recipe.epochs
        self.steps_per_epoch = steps_per_epoch(images, recipe.batch_size, recipe.drop_last)
        self.items_per_epoch = min(self.steps_per_epoch * recipe.batch_size, images)
        if self.steps_per_epoch == 0:
            raise TrainingStopped(
                f"{images} training images are less than one batch of {recipe.batch_size}",
                "use a larger data set",
            )
        with PairedInitialisation(job.seed):
            model = models.create(recipe.model, num_classes=len(self.classes), **recipe.knobs)
        model.to(device)
        if recipe.start is not None:
            assert job.start is not None
            take_weights(model, job.start, recipe.start.parameters)
        self.descent = Descent(
            model,
            recipe.optimiser,
            epochs=recipe.epochs,
            part=part,
            execution=job.execution,
            at_once=recipe.at_once(job.execution, part.world),
            average_from=recipe.average_from,
        )
        if recipe.filter_rms is not None:
            renormalise_after_step(model, self.descent.optimiser, recipe.filter_rms)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """See `Learner`."""
        self.descent.begin_epoch()
        frozen_from = self.recipe.freeze_norm_from
        if frozen_from is not None and epoch >= frozen_from:
            freeze(self.descent.model)
        return self._batches(epoch, self.recipe.batch_size, self.part, first_step)

    def _batches(
        self, epoch: int, batch_size: int, part: Part, first_step: int = 0
    ) -> Iterator[Batch]:
        return training_batches(
            self.train_images,
            self.recipe.augmentation,
            batch_size=batch_size,
            seed=self.job.seed,
            epoch=epoch,
            first_step=first_step,
            drop_last=self.recipe.drop_last,
            shuffle_buffer=self.recipe.shuffle_buffer,
            part=part,
            processes=self.job.loader_processes,
        )

    def step(self, batch: Batch, step: int) -> tuple[Tensor, Mapping[str, float]]:
        """See `Learner`; the sums are the main head's loss and its correct answers."""
        epoch = step / self.steps_per_epoch

        def loss(network: Forward, piece: Batch) -> tuple[Tensor, Tensor]:
            return self._loss(network, piece, epoch)

        sums, rate = self.descent.step(batch, loss, epoch)
        return sums, {"rate": rate}

    def _inputs(self, batch: Batch, epoch: float) -> Tensor:
        """What the network sees of a batch."""
        augmentation = self.recipe.augmentation
        noisy = augmentation.colour_noise != "none" and (
            augmentation.colour_until is None or epoch < augmentation.colour_until
        )
        inputs = self.normalise(
            batch.images,
            batch.colour if noisy else None,
            batch.distortion if augmentation.distortion else None,
        )
        if isinstance(augmentation.sampling, PaddedSquare):
            return windows_of_padded(inputs, batch.places, augmentation.sampling.border)
        return inputs

    def _loss(self, network: Forward, batch: Batch, epoch: float) -> tuple[Tensor, Tensor]:
        """What is minimised, summed over the images; and the main head's loss and correct answers."""
        outputs = network(self._inputs(batch, epoch))
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        main, *auxiliary = (
            summed_loss(self.recipe.loss, scores.float(), batch.labels, self.recipe.label_smoothing)
            for scores in heads
        )
        correct = (heads[0].detach().argmax(dim=1) == batch.labels).sum()
        loss = main + self.recipe.auxiliary_weight * sum(auxiliary)
        return loss, torch.stack([main.detach().double(), correct.double()])

    def check(self, steps: range, loss: float) -> None:
        """See `Learner`: after the recipe's `start_steps` the loss must be below the chance level."""
        chance = math.log(len(self.classes))
        due = steps.start < self.recipe.start_steps <= steps.stop
        if due and loss > STARTED * chance:
            raise TrainingStopped(
                f"training did not take off: after {steps.stop} steps the loss is still {loss:.3f} (the "
                f"chance level for {len(self.classes)} classes is {chance:.3f})",
                "check the initialisation and the scale of the input (0-255 less the mean for the "
                "early nets), change the learning rate, or raise the recipe's start_steps",
            )

    def validate(self, epoch: int, totals: Sequence[float]) -> Mapping[str, float | str]:
        """See `Learner`: the errors of the centre crop, and of the crops that were trained on."""
        prediction = predict(
            self.descent.tested,
            self.val_images,
            self.normalise,
            self.views,
            part=self.part,
            processes=self.job.loader_processes,
            device=self.device,
        )
        correct = correct_answers(prediction_table(prediction))
        counts = torch.tensor(
            [correct[:, 0].sum(), correct.any(axis=1).sum(), len(correct)], device=self.device
        )
        top1, top5, n = sum_over_workers(counts, self.part).tolist()
        error_top1 = 100 * (1 - top1 / n)
        self.descent.validated(error_top1)
        _, correct_in_training = totals
        return {
            "protocol": "centre_crop",
            "error_top1": error_top1,
            "error_top5": 100 * (1 - top5 / n),
            "n": n,
            "train_error_top1": 100 * (1 - correct_in_training / self.items_per_epoch),
            "train_n": self.items_per_epoch,
        }

    def state(self) -> dict[str, Any]:
        """See `Learner`."""
        return self.descent.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner`."""
        self.descent.load(state)

    def save(self, path: Path) -> None:
        """See `Learner`; batch normalisation's averages are those that the recipe asks for."""
        if self.recipe.true_statistics is not None:
            take_true_statistics(
                self.descent.tested, self._statistics_inputs(self.recipe.true_statistics)
            )
        provenance = Provenance(
            network=self.recipe.model,
            classes=[item.synset for item in self.classes],
            knobs=self.recipe.knobs,
            recipe=self.recipe.id,
        )
        save_weights(self.descent.tested, path, provenance)

    def _statistics_inputs(self, images: int) -> Iterator[Tensor]:
        """So many training images, at most all, as an epoch after the last would show them to one worker."""
        size = self.recipe.batch_norm_images or self.recipe.batch_size
        batches = self._batches(self.epochs, size, ALONE)
        for batch in itertools.islice(batches, max(1, images // size)):
            yield self._inputs(batch.to(self.device), self.epochs)


def _decoding_device(execution: Execution, device: torch.device) -> torch.device | None:
    """The GPU that is to decode training images; None where that is the CPU's work."""
    if execution.decode == "cpu":
        return None
    if device.type != "cuda":
        raise TrainingStopped(
            "training images are to be decoded on a GPU, and this worker has none",
            "omit --decode, or give it a GPU",
        )
    return device
