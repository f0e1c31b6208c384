"""train: one training of one recipe on one data set with one seed.

It knows neither Ray nor MLflow. Under a launcher that has set up torch.distributed it trains data-parallel;
otherwise alone. It picks up its own last checkpoint, so calling it again after any interruption resumes
it, and calling it after the end returns how the training ended.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

from stages.dataset import is_dataset
from stages.devices import default_device
from stages.errors import PipelineError
from stages.job import OnEpoch, TrainJob, TrainResult, read_result
from stages.parallel import this_worker
from stages.storage import write_atomically
from stages.tasks import task_of

if TYPE_CHECKING:
    import torch


def train(
    job: TrainJob, device: torch.device | None = None, on_epoch: OnEpoch | None = None
) -> TrainResult:
    """Train to the end of the recipe, from the last checkpoint where there is one.

    The task leaves the weights. The first worker then writes the result, whole or not at all: it says that
    the run has finished, so it is the last thing to be written, and only then the checkpoints go.

    Args:
        job: what to train.
        device: of this worker; the first GPU or the CPU unless given.
        on_epoch: callback after each epoch.

    Raises:
        TrainingStopped: the loss never fell below the chance level, or is no longer a number; or
            workers do not see the same run folder.
        PipelineError: this worker does not see the data set, or cannot read it.
    """
    result = read_result(job.folder)
    if result is None:
        if not is_dataset(job.dataset):
            raise PipelineError(
                f"worker {this_worker().rank} does not see the data set {job.dataset}",
                "with several machines, put --workspace on storage that all of them mount",
            )
        result = task_of(job.recipe).train(job, device or default_device(), on_epoch)
        if this_worker().rank != 0:
            return result
        write_atomically(job.folder.result, json.dumps(asdict(result)) + "\n")
    shutil.rmtree(job.folder.checkpoints, ignore_errors=True)
    return result
