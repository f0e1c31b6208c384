"""Networks that others trained, and files of one's own, tested by the papers' protocols."""

import csv
import json
from pathlib import Path

import pytest
import torch
import torchvision

from stages.evaluate import evaluate_part
from stages.job import RunFolder, TrainJob
from stages.load.samples import Dataset
from stages.tasks.classification.protocols import Views
from stages.tasks.classification.recipe import PretrainedClassifier, Shown
from stages.tasks.classification.score import correct_answers
from stages.tasks.task import Net
from stages.train import train
from tests.conftest import SHARED, command

NEEDS_IMAGENET = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs images of real ImageNet classes"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A torchvision network's state, as its users save it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@NEEDS_IMAGENET
def test_a_pretrained_network_answers_for_the_classes_at_hand(
    checkpoint: Path, dataset: Dataset
) -> None:
    """Its thousand scores are in the order of the sorted WordNet ids; by hand on one view."""
    shown = Shown(crop=64, resize=64)
    net = Net(PretrainedClassifier("torchvision:resnet18", shown), checkpoint)
    table = evaluate_part([net], dataset.root, "centre_crop", device=torch.device("cpu"))
    index = json.loads((SHARED / "devkit" / "imagenet_class_index.json").read_text())
    places = {wnid: int(place) for place, (wnid, _) in index.items()}
    columns = [places[item.synset] for item in dataset.info.classes]
    model = torchvision.models.resnet18()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    views = Views("centre_crop", shown)
    image = next(iter(views(views.images(dataset.samples("val"))[0]))).float()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255
    with torch.inference_mode():
        scores = model.eval()((image - mean) / deviation)[:, columns]
    expected = scores.softmax(dim=1).topk(5)
    assert table["answers"][0].as_py() == expected.indices[0].tolist()
    assert table["probabilities"][0].as_py() == pytest.approx(expected.values[0].tolist(), abs=1e-5)
    assert correct_answers(table).shape == (42, 5)


@NEEDS_IMAGENET
def test_the_command_records_it_beside_the_papers_runs(
    checkpoint: Path, source: Path, tmp_path: Path
) -> None:
    arguments = ["pipeline.evaluate", "--model", "torchvision:resnet18", "--weights", checkpoint]
    arguments += ["--data", source, "--paper", "resnet", "--protocol", "centre_crop,ten_crop"]
    arguments += ["--workspace", tmp_path, "--launcher", "inline", "--crop", 64]
    done = command(*map(str, arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("n=42: top-1 error") == 2
    rows = list(csv.DictReader((tmp_path / "report" / "timeline.csv").open()))
    found = [row for row in rows if row["kind"] == "reproduced"]
    assert {row["protocol"] for row in found} == {"centre_crop", "ten_crop"}
    assert {row["model"] for row in found} == {"torchvision:resnet18"}
    assert all("not trained here" in row["deviations"] for row in found)
    again = command(*map(str, arguments))
    assert "evaluate  finished before, skipped" in again.stdout


def test_a_file_of_ones_own(recipe, dataset: Dataset, tmp_path: Path) -> None:
    job = TrainJob(recipe, dataset.root, RunFolder(tmp_path / "run"), seed=0)
    train(job)
    arguments = ["pipeline.evaluate", "--model", "alexnet", "--weights", job.folder.weights]
    arguments += ["--data", dataset.root, "--profile", "toy", "--launcher", "inline"]
    done = command(*map(str, arguments), "--workspace", str(tmp_path / "ws"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "centre_crop, n=42" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "torchvision:resnet18"], "name one with --paper"),
        (["--model", "alexnet"], "name the file of a run with --weights"),
        (["--model", "alexnet", "--weights", "/nowhere"], "no weights file at /nowhere"),
        (["--model", "x:y", "--paper", "resnet", "--protocol", "twelve"], "there is no protocol"),
        (["--model", "alexnet", "--weights", __file__, "--crop", "200"], "omit --crop"),
        (["--model", "torchvision:resnet19", "--paper", "resnet"], "resnet18"),
        (["--model", "torchvision:resnet18", "--paper", "resnet"], "--download"),
    ],
)
def test_bad_input_is_one_message_with_its_remedy(
    arguments, message: str, source: Path, tmp_path: Path
) -> None:
    done = command(
        *("pipeline.evaluate", *arguments, "--data", source),
        *("--workspace", tmp_path, "--launcher", "inline"),
        TORCH_HOME=str(tmp_path / "no-cache"),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
