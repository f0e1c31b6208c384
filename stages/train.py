"""train: one training of one recipe on one data set with one seed.

A plain loop that knows neither Ray nor MLflow. Under a launcher that has set up torch.distributed it
trains data-parallel; otherwise alone. It picks up its own last checkpoint, so calling it again after any
interruption goes on, and calling it after the end returns what was found.
"""

import contextlib
import json
import math
import re
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import models
from models.weights import Provenance, load_network, save_weights
from models.zfnet import renormalise_after_step
from stages.errors import PipelineError
from stages.evaluate import answers, default_device, hits, predict
from stages.execution import Execution
from stages.job import OnEpoch, TrainingStopped, TrainJob, TrainResult, read_result
from stages.journal import Journal
from stages.load.augment.colour import Normalise
from stages.load.loader import Batch, Images, steps_per_epoch, training_batches
from stages.load.samples import Dataset
from stages.parallel import ALONE, Part
from stages.storage import write_atomically
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import Classification
from stages.training import checkpoint, optim
from stages.training.initialisation import PairedInitialisation

# A loss this close to that of guessing has not left it.
STARTED = 0.99
LOGS_PER_EPOCH = 20


def train(
    job: TrainJob, device: torch.device | None = None, on_epoch: OnEpoch | None = None
) -> TrainResult:
    """Train to the end of the recipe, from the last checkpoint where there is one.

    Args:
        job: what to train.
        device: of this worker; the first GPU or the CPU unless given.
        on_epoch: who wants to hear of every epoch.

    Raises:
        TrainingStopped: the loss never left that of guessing, or is no longer a number; or workers do
            not see the same run folder.
        PipelineError: a worker cannot read the data set.
    """
    result = read_result(job.folder)
    if result is None:
        result = _Training(job, device or default_device(), on_epoch).run()
    shutil.rmtree(job.folder.checkpoints, ignore_errors=True)  # the weights are there now
    return result


class _Training:
    """The state of one training on one worker."""

    def __init__(
        self, job: TrainJob, device: torch.device, on_epoch: OnEpoch | None = None
    ) -> None:
        assert isinstance(job.recipe, Classification)
        self.job, self.recipe, self.device = job, job.recipe, device
        self.on_epoch = on_epoch
        distributed = dist.is_available() and dist.is_initialized()
        self.part = Part(dist.get_rank(), dist.get_world_size()) if distributed else ALONE
        if not (job.dataset / "dataset.json").is_file():
            raise PipelineError(
                f"worker {self.part.rank} does not see the data set {job.dataset}",
                "with several machines, put --workspace on storage that all of them mount",
            )
        dataset = Dataset(job.dataset)
        self.classes = dataset.info.classes
        augmentation = self.recipe.augmentation
        self.views = Views.of(self.recipe.shown, "centre_crop")
        self.train_images = Images.to_train(
            dataset.samples("train"), augmentation, _decoding_device(job.execution, device)
        )
        self.val_images = Images.to_view(dataset.samples("val"), self.views)
        self.normalise = Normalise(dataset, augmentation, device)
        self.steps_per_epoch = steps_per_epoch(
            len(self.train_images), self.recipe.batch_size, self.recipe.drop_last
        )
        if self.steps_per_epoch == 0:
            raise TrainingStopped(
                f"{len(self.train_images)} training images are less than one batch "
                f"of {self.recipe.batch_size}",
                "use a larger data set",
            )
        with PairedInitialisation(job.seed):
            self.model = models.create(
                self.recipe.model, num_classes=len(self.classes), **self.recipe.knobs
            )
        self.model.to(device)
        if self.recipe.start is not None:
            assert job.start is not None
            _take_weights(self.model, job.start, self.recipe.start.parameters)
        if job.execution.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimiser = optim.build(self.model, self.recipe.optimiser)
        if self.recipe.filter_rms is not None:
            renormalise_after_step(self.model, self.optimiser, self.recipe.filter_rms)
        self.averaged = (
            None
            if self.recipe.average_from is None
            else AveragedModel(self.model, use_buffers=False)
        )
        self.plateau = optim.PlateauState()
        self.step, self.seconds, self.loss, self.right = 0, 0.0, math.nan, 0
        self._restore()
        self.network: nn.Module = self.model
        if self.part.world > 1:
            self.network = DistributedDataParallel(
                self.model, device_ids=[device] if device.type == "cuda" else None
            )
        if job.execution.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        self.journal = Journal(job.folder.journal) if self.part.rank == 0 else None
        self._next_save = time.monotonic() + job.checkpoint_seconds

    def run(self) -> TrainResult:
        total = self.recipe.epochs * self.steps_per_epoch
        self._write(
            "start",
            epochs=self.recipe.epochs,
            steps=total,
            world=self.part.world,
            device=str(self.device),
            **asdict(self.job.execution),
        )
        for epoch in range(self.step // self.steps_per_epoch, self.recipe.epochs):
            self._epoch(epoch)
            self._validate(epoch)
            if epoch + 1 < self.recipe.epochs and time.monotonic() >= self._next_save:
                self._save()
        images = self.recipe.epochs * self._images_per_epoch
        result = TrainResult(self.step, self.loss, self.seconds, images / max(self.seconds, 1e-9))
        if self.part.rank == 0:
            provenance = Provenance(
                network=self.recipe.model,
                classes=[item.synset for item in self.classes],
                knobs=self.recipe.knobs,
                recipe=self.recipe.id,
            )
            save_weights(self._tested(), self.job.folder.weights, provenance)
            write_atomically(self.job.folder.result, json.dumps(asdict(result)) + "\n")
        return result

    @property
    def _images_per_epoch(self) -> int:
        return min(self.steps_per_epoch * self.recipe.batch_size, len(self.train_images))

    def _epoch(self, epoch: int) -> None:
        self.network.train()
        interval = max(1, self.steps_per_epoch // LOGS_PER_EPOCH)
        summed = torch.zeros(2, device=self.device, dtype=torch.float64)
        if self.step % self.steps_per_epoch == 0:
            self.right = 0
        since, images, started = self.step, 0, time.monotonic()
        batches = training_batches(
            self.train_images,
            self.recipe.augmentation,
            batch_size=self.recipe.batch_size,
            seed=self.job.seed,
            epoch=epoch,
            first_step=self.step - epoch * self.steps_per_epoch,
            drop_last=self.recipe.drop_last,
            shuffle_buffer=self.recipe.shuffle_buffer,
            part=self.part,
            processes=self.job.loader_processes,
        )
        for batch in batches:
            reached = self.step / self.steps_per_epoch
            rate = optim.set_rates(
                self.optimiser, reached, epochs=self.recipe.epochs, drops=self.plateau.drops
            )
            summed += self._step(batch, reached)
            self.step += 1
            if self.averaged is not None and reached >= (self.recipe.average_from or 0):
                self.averaged.update_parameters(self.model)
            images += batch.of
            if self.step % interval == 0 or self.step % self.steps_per_epoch == 0:
                loss, right = self._over_workers(summed).tolist()
                self.loss = loss / images
                self.right += int(right)
                seconds = time.monotonic() - started
                self.seconds += seconds
                self._write(
                    "step",
                    epoch=epoch,
                    loss=self.loss,
                    rate=rate,
                    images_per_second=images / seconds,
                    seconds_per_step=seconds / (self.step - since),
                )
                self._check_loss(self.step - since)
                summed.zero_()
                since, images, started = self.step, 0, time.monotonic()
                # Not after an epoch's last step: that checkpoint follows the validation, or a run killed
                # in between would never validate that epoch.
                if self.step % self.steps_per_epoch and time.monotonic() >= self._next_save:
                    self._save()

    def _step(self, batch: Batch, epoch: float) -> Tensor:
        """One step of the optimiser; returns the summed loss and the right answers of this worker's part."""
        # Dropout is a function of (seed, step, worker), so a checkpoint needs no generator's state.
        state = np.random.SeedSequence([self.job.seed, self.step, self.part.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))
        batch = batch.to(self.device)
        images = len(batch.labels)
        size = self.job.execution.micro_batch or max(1, images)
        summed = torch.zeros(2, device=self.device, dtype=torch.float64)
        if images == 0:
            # The others wait for this worker's gradients, and few layers know what to do with nothing.
            (0 * self._loss(batch.stand_in(), epoch)[0]).backward()
        for start in range(0, images, size):
            part = batch.images_from(start, size)
            with self._gradients_stay_here(start + size < images):
                loss, seen = self._loss(part, epoch)
                # The workers' gradients are averaged; this makes that the mean over the global batch,
                # also when the workers' parts differ in size.
                (loss * (self.part.world / batch.of)).backward()
            summed += seen
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return summed

    def _loss(self, batch: Batch, epoch: float) -> tuple[Tensor, Tensor]:
        """What is minimised, summed over the images; and the main head's loss and right answers."""
        augmentation, execution = self.recipe.augmentation, self.job.execution
        noisy = augmentation.colour_noise != "none" and (
            augmentation.colour_until is None or epoch < augmentation.colour_until
        )
        inputs = self.normalise(
            batch.images,
            batch.colour if noisy else None,
            batch.distortion if augmentation.distortion else None,
        )
        if execution.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        bf16 = execution.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            outputs = self.network(inputs)
        main, *auxiliary = (
            F.cross_entropy(
                scores.float(),
                batch.labels,
                reduction="sum",
                label_smoothing=self.recipe.label_smoothing,
            )
            for scores in (outputs if isinstance(outputs, tuple) else (outputs,))
        )
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        right = (first.detach().argmax(dim=1) == batch.labels).sum()
        loss = main + self.recipe.auxiliary_weight * sum(auxiliary)
        return loss, torch.stack([main.detach().double(), right.double()])

    def _gradients_stay_here(self, stay: bool) -> contextlib.AbstractContextManager[None]:
        """While micro-batches are summed, the workers need not hear of each one."""
        if stay and self.part.world > 1:
            return self.network.no_sync()  # type: ignore[operator]
        return contextlib.nullcontext()

    def _tested(self) -> nn.Module:
        """The network whose weights count: the averaged one once averaging has begun."""
        if self.averaged is not None and int(self.averaged.n_averaged) > 0:
            return self.averaged.module
        return self.model

    def _validate(self, epoch: int) -> None:
        predicted = predict(
            self._tested(),
            self.val_images,
            self.normalise,
            self.views,
            part=self.part,
            processes=self.job.loader_processes,
            device=self.device,
        )
        table = answers(predicted)
        right = hits(table)
        counts = torch.tensor(
            [right[:, 0].sum(), right.any(axis=1).sum(), len(table)], device=self.device
        )
        top1, top5, n = self._over_workers(counts).tolist()
        error_top1 = 100 * (1 - top1 / n)
        self._write(
            "epoch",
            epoch=epoch,
            error_top1=error_top1,
            error_top5=100 * (1 - top5 / n),
            n=n,
            train_error_top1=100 * (1 - self.right / self._images_per_epoch),
            train_n=self._images_per_epoch,
        )
        if (schedule := optim.plateau_of(self.recipe.optimiser)) is not None:
            self.plateau.update(error_top1, schedule)
        if self.on_epoch is not None:
            self.on_epoch(epoch + 1)

    def _check_loss(self, steps: int) -> None:
        if not math.isfinite(self.loss):
            raise TrainingStopped(
                f"the loss is {self.loss} at step {self.step}: training diverged",
                "lower the recipe's learning rate; the last checkpoint is kept",
            )
        if (
            self.step - steps < self.recipe.start_steps <= self.step
            and self.loss > STARTED * math.log(len(self.classes))
        ):
            raise TrainingStopped(
                f"did not start: after {self.step} steps the loss is {self.loss:.3f}, still that of "
                f"guessing among {len(self.classes)} classes ({math.log(len(self.classes)):.3f})",
                "check the initialisation and the scale of the input (0-255 less the mean for the "
                "early nets), change the learning rate, or raise the recipe's start_steps",
            )

    def _over_workers(self, value: Tensor) -> Tensor:
        """The sum over all workers."""
        if self.part.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def _write(self, kind: str, **values: Any) -> None:
        if self.journal is not None:
            self.journal.write(kind, self.step, **values)

    def _save(self) -> None:
        if self.part.rank != 0:
            return
        started = time.monotonic()
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "right": self.right,
            "plateau": asdict(self.plateau),
            "averaged": self.averaged.state_dict() if self.averaged is not None else {},
            "model": self.model.state_dict(),
            "optimiser": [
                [self.optimiser.state[p] for p in group["params"]]
                for group in self.optimiser.param_groups
            ],
        }
        checkpoint.save(self.job.folder.checkpoints, state, self.step)
        # At most a twentieth of the time goes into checkpoints, however large the network; unless the
        # job wants one every step.
        spent = time.monotonic() - started
        wanted = self.job.checkpoint_seconds
        self._next_save = time.monotonic() + (max(wanted, 20 * spent) if wanted else 0.0)

    def _restore(self) -> None:
        state = checkpoint.latest(self.job.folder.checkpoints)
        if state is not None:
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
            self.right, self.plateau = state["right"], optim.PlateauState(**state["plateau"])
            self.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            for group, states in zip(self.optimiser.param_groups, state["optimiser"], strict=True):
                for parameter, values in zip(group["params"], states, strict=True):
                    self.optimiser.state[parameter] = {
                        k: v.to(self.device) for k, v in values.items()
                    }
        if self.part.world > 1:
            steps: list[Any] = [None] * self.part.world
            dist.all_gather_object(steps, self.step)
            if len(set(steps)) > 1:
                raise TrainingStopped(
                    f"the workers found checkpoints of different steps: {steps}",
                    "with several machines, put --workspace on storage that all of them mount",
                )


def _decoding_device(execution: Execution, device: torch.device) -> torch.device | None:
    """The GPU that is to decode training images; None where that is the CPU's work."""
    if execution.decode == "cpu":
        return None
    if device.type != "cuda":
        raise TrainingStopped(
            "training images are to be decoded on a GPU, and this worker has none",
            "leave --decode out, or give it a GPU",
        )
    return device


def _take_weights(model: nn.Module, path: Path, pattern: str) -> None:
    """Copy the parameters and buffers whose whole name matches from a file of trained weights."""
    try:
        source, _ = load_network(path)
    except (OSError, ValueError) as error:
        raise TrainingStopped(
            f"the weights to start from cannot be loaded: {error}",
            "train the earlier recipe again with --force train",
        ) from error
    own = model.state_dict()
    taken = {k: v for k, v in source.state_dict().items() if re.fullmatch(pattern, k)}
    misfits = [k for k, v in taken.items() if k not in own or own[k].shape != v.shape]
    if misfits or not taken:
        raise TrainingStopped(
            f"these of {path} do not fit the network that starts from it: "
            f"{', '.join(misfits) or 'nothing matches ' + pattern}",
            "correct the recipe's start",
        )
    model.load_state_dict(taken, strict=False)
