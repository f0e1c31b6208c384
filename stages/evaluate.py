"""evaluate: what a trained network, or an ensemble, achieves under a stated protocol.

Each worker predicts its part of what a test asks about; `score` puts the parts together and asserts that
every item is there exactly once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.devices import default_device
from stages.errors import PipelineError
from stages.job import RunFolder
from stages.load.samples import Dataset
from stages.measurement import Evaluation
from stages.parallel import ALONE, ParallelMap, Part
from stages.recipe import Pretrained, Recipe
from stages.storage import write_atomically
from stages.tasks import task_of
from stages.tasks.task import Net

if TYPE_CHECKING:
    import torch


def evaluate_part(
    nets: Sequence[Net],
    dataset_root: Path,
    protocol: str,
    *,
    part: Part = ALONE,
    processes: int = 0,
    device: torch.device | None = None,
) -> pa.Table:
    """Load trained weights and answer for one part of a test (see `stages.tasks.task.Task.predict`).

    Args:
        nets: one network, or an ensemble's.
        dataset_root: a data set folder.
        protocol: how each network is tested.
        part: this worker's place among all.
        processes: loader processes.
        device: the first GPU or the CPU unless given.

    Raises:
        PipelineError: weights that cannot be loaded, or that are of other classes; or a protocol that
            does not suit the networks.
    """
    return task_of(nets[0].origin).predict(
        nets,
        Dataset(dataset_root),
        protocol,
        part,
        processes=processes,
        device=device or default_device(),
    )


def score(
    origin: Recipe | Pretrained,
    parts: Sequence[pa.Table],
    dataset_root: Path,
    protocol: str,
    folder: RunFolder,
) -> Evaluation:
    """Put the parts' predictions together, compute the figures, and write both to the run's folder.

    The predictions are written first (one row per item, with its key), the figures last.

    Args:
        origin: of the network, or of one of an ensemble's.
        parts: what `evaluate_part` returned to each worker.
        dataset_root: the data set folder that was tested on.
        protocol: how it was tested.
        folder: of the run.

    Raises:
        PipelineError: an item was predicted more than once, or not at all.
    """
    task, dataset = task_of(origin), Dataset(dataset_root)
    keys = task.keys(dataset, protocol)
    # The table of a worker without items lacks what the others' know: how many answers each has.
    answered = [part for part in parts if len(part)]
    predictions = pa.concat_tables(answered).sort_by("index")
    indices = predictions["index"].to_numpy()
    if not np.array_equal(indices, np.arange(len(keys))):
        raise PipelineError(
            f"{len(indices)} predictions for {len(keys)} items, "
            f"{len(np.unique(indices))} of them distinct",
            "this is a bug, and nothing is wrong with the data; please report it",
        )
    figures = task.score(predictions, dataset, protocol)
    evaluation = Evaluation(protocol, len(keys), figures)
    folder.evaluations.mkdir(parents=True, exist_ok=True)
    pq.write_table(predictions.add_column(0, "key", pa.array(keys)), folder.predictions(protocol))
    write_atomically(folder.evaluation(protocol), evaluation.to_json())
    return evaluation


def evaluate_in_parts(
    nets: Sequence[Net],
    dataset: Path,
    protocols: Sequence[str],
    folder: RunFolder,
    *,
    pmap: ParallelMap,
    workers: int,
    processes: int,
) -> None:
    """Test a network, or an ensemble's, under some protocols; the figures go into `folder`.

    Args:
        nets: what is tested.
        dataset: a data set folder.
        protocols: how it is tested.
        folder: the run's own.
        pmap: what reaches the workers.
        workers: how many parts the items are cut into.
        processes: loader processes of each worker.

    Raises:
        PipelineError: see `evaluate_part` and `score`.
    """
    predict = functools.partial(
        predict_part, nets=nets, dataset=dataset, protocols=protocols, processes=processes
    )
    parts = list(pmap(predict, Part.all(workers)))
    for protocol in protocols:
        score(nets[0].origin, [part[protocol] for part in parts], dataset, protocol, folder)


def predict_part(
    part: Part, *, nets: Sequence[Net], dataset: Path, protocols: Sequence[str], processes: int
) -> Mapping[str, pa.Table]:
    """What the networks answer for one part of the items, by protocol."""
    return {
        protocol: evaluate_part(nets, dataset, protocol, part=part, processes=processes)
        for protocol in protocols
    }


def read_evaluation(folder: RunFolder, protocol: str) -> Evaluation | None:
    """What an earlier `score` wrote, or None."""
    path = folder.evaluation(protocol)
    return Evaluation.from_json(path.read_text()) if path.is_file() else None
