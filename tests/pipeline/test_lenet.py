"""LeNet-5 on real digits, by its own loss, as a paper of its own."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine.command_line import Where
from pipeline.engine.runs import Run, RunContext
from pipeline.engine.workbench import Workbench
from pipeline.papers.lenet import PAPER
from pipeline.papers.lenet.recipes import LENET5, MINI_LENET5
from stages.measurement import reproductions
from stages.tasks.classification.recipe import CrossEntropy, MAPCriterion

TRAIN, TEST = 2000, 500


@pytest.fixture(scope="module")
def digits(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of MNIST's test set, split, in the form in which people hold MNIST."""
    source = shared_data / "small-sets" / "mnist"
    images = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    classes = np.frombuffer(labels, np.uint8, offset=8)
    folder = tmp_path_factory.mktemp("mnist")
    for name, part in (("train", slice(0, TRAIN)), ("t10k", slice(TRAIN, TRAIN + TEST))):
        header = struct.pack(">HBBIII", 0, 8, 3, len(pixels[part]), 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels[part].tobytes())
        header = struct.pack(">HBBI", 0, 8, 1, len(classes[part]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + classes[part].tobytes())
    return folder


def test_it_learns_digits_by_its_own_loss(digits: Path, tmp_path: Path) -> None:
    where = Where(workspace=tmp_path, data=(f"mnist={digits}",), launcher="inline")
    recipe = replace(MINI_LENET5, epochs=3)
    with Workbench(where) as bench:
        data = bench.prepared({"mnist"})
        (evaluation,) = bench.executor.run(
            Run(RunContext(PAPER, "mini", data, 0), "lenet5", recipe)
        )
        measurements = [m for m in bench.tracker.measurements() if m.split == "val"]
    assert (
        evaluation.figures["error_top1"].value < 60
    )  # of 90 when guessing; far above what is reached
    assert evaluation.n == TEST
    (one,) = reproductions(measurements, [PAPER])
    assert one.any.benchmark == "mnist-test"
    assert one.not_comparable == "profile mini, not the published scale; 500 images, not 10,000"
    assert [figure.figures for figure in one.counterparts] == [{"error_top1": 0.95}]


def test_its_recipe_is_the_sheet_s() -> None:
    assert LENET5.loss == MAPCriterion(j=10.0)
    assert LENET5.grey == (-0.1, 1.175)
    assert (LENET5.epochs, LENET5.batch_size, LENET5.data) == (20, 1, "mnist")
    (group,) = LENET5.optimiser.groups
    # 0.0005, 0.0002, 0.0001, 0.00005 and 0.00001 after 2, 3, 3 and 4 passes; here each twice.
    assert [(epoch, rate / 2) for epoch, rate in group.schedule.rates] == [
        (0, 5e-4),
        (2, 2e-4),
        (5, 1e-4),
        (8, 5e-5),
        (12, 1e-5),
    ]
    assert PAPER.recipes["paper"]["fully_connected"].loss == CrossEntropy()
