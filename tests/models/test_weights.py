import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import models
from models import Provenance, load_network, load_weights, read_provenance, save_weights

KNOBS = {"width": 0.125, "image_size": 64, "remove": ("conv4",), "groups": "isolated"}
PROVENANCE = Provenance(
    network="alexnet",
    classes=("n01440764", "tench, Tinca tinca", "n01443537"),
    knobs=KNOBS,
    recipe="3f2a",
    protocol="val, centre crop",
    error_percent={"top1": 40.7, "top5": 18.2},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "alexnet.safetensors"
    save_weights(models.create("alexnet", 3, **KNOBS), path, PROVENANCE)
    return path


def test_round_trip(saved: Path) -> None:
    model, provenance = load_network(saved)
    assert provenance == PROVENANCE
    again = models.create("alexnet", 3, **KNOBS)
    assert not torch.equal(again.get_parameter("conv1.weight"), model.get_parameter("conv1.weight"))
    assert load_weights(again, saved) == PROVENANCE
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_channels_last_weights_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = models.create("alexnet", 3, **KNOBS).to(memory_format=torch.channels_last)
    save_weights(model, path, PROVENANCE)
    loaded, _ = load_network(path)
    for p, q in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(p, q)


def test_running_statistics_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = models.create("resnet_cifar", 10, depth=8)
    model(torch.randn(4, 3, 32, 32))
    classes = tuple(map(str, range(10)))
    save_weights(model, path, Provenance("resnet_cifar", classes, {"depth": 8}))
    loaded, _ = load_network(path)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(x), loaded.eval()(x))


def test_provenance_is_read_without_the_weights(saved: Path) -> None:
    assert read_provenance(saved) == PROVENANCE


def test_nothing_partial_stays(saved: Path) -> None:
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 0.25}, "size mismatch"), ({"remove": ()}, "conv4"), ({"conv6": True}, "conv6")],
)
def test_another_network_is_refused(saved: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_weights(models.create("alexnet", 3, **KNOBS | change), saved)
    assert "alexnet" in str(error.value)


def rewritten(path: Path, **metadata: str) -> Path:
    """The same weights in a file with other metadata; None leaves an entry out."""
    with safe_open(path, framework="pt") as file:
        kept = {**file.metadata(), **metadata}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    other = path.with_name("other.safetensors")
    save_file(tensors, other, {name: value for name, value in kept.items() if value})
    return other


@pytest.mark.parametrize(
    ("network", "knobs", "then"),
    [
        ("alexnet", {"width": 0.125, "image_size": 64}, {"inverted_dropout": True}),
        ("alexnet", {"width": 0.125, "image_size": 64, "remove": ("fc6", "fc7")}, {}),
        ("zfnet", {"width": 0.125, "image_size": 64}, {"inverted_dropout": True}),
        ("vgg_d", {"width": 0.125, "image_size": 48, "ceil_mode": False}, {"ceil_mode": False}),
        (
            "vgg_a_lrn",
            {"width": 0.125, "image_size": 32},
            {"ceil_mode": False, "lrn_alpha_convention": "paper", "lrn_k": 2.0},
        ),
        (
            "preact_resnet200",
            {"width": 0.125, "blocks": (1, 1, 1, 1)},
            {"stride_in": "1x1", "pool": "ceil"},
        ),
        ("resnet_cifar", {"depth": 8}, {}),
    ],
)
def test_files_of_before_are_the_network_that_was_trained(
    network: str, knobs: dict[str, object], then: dict[str, object], tmp_path: Path
) -> None:
    model, path = models.create(network, 3, **knobs), tmp_path / "w.safetensors"
    stated = {name: value for name, value in knobs.items() if name not in then}
    save_weights(model, path, Provenance(network, ("a", "b", "c"), stated))
    loaded, provenance = load_network(rewritten(path, format=""))
    assert dict(provenance.knobs) == {**then, **stated}
    assert str(loaded) == str(models.create(network, 3, **{**stated, **then}))


def test_stated_knobs_of_before_count_and_later_files_are_refused(saved: Path) -> None:
    knobs = {**KNOBS, "inverted_dropout": False}
    before = rewritten(saved, format="", knobs=json.dumps(knobs))
    assert read_provenance(before).knobs["inverted_dropout"] is False
    with pytest.raises(ValueError, match="later version"):
        read_provenance(rewritten(saved, format="99"))


def test_damaged_and_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(saved.read_bytes()[:-100])
    foreign = tmp_path / "pickled.pt"
    torch.save({}, foreign)
    for path in (damaged, foreign):
        with pytest.raises(ValueError, match=path.name):
            load_network(path)
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "absent.safetensors")


def test_features_are_the_outputs_of_the_layers() -> None:
    model = models.create("alexnet", 3, width=0.125, image_size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    got = models.features(model, ["fc7", "conv1"], x)
    assert list(got) == ["fc7", "conv1"]
    assert torch.equal(got["conv1"], model.get_submodule("conv1")(x))
    got["fc7"].sum().backward()
    assert model.get_parameter("conv1.weight").grad is not None
    assert not any(module._forward_hooks for module in model.modules())


def test_features_survive_in_place_operations() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True))
    x = torch.randn(1, 3, 8, 8)
    assert (models.features(model, ["0"], x)["0"] < 0).any()


def test_features_of_unknown_or_idle_layers_are_refused() -> None:
    model = models.create("alexnet", 3, width=0.125, image_size=64)
    with pytest.raises(ValueError, match="conv9"):
        models.features(model, ["conv9"], torch.zeros(1, 3, 64, 64))
    net = models.create("googlenet", 3, width=0.125).eval()
    idle = next(name for name, _ in net.named_children() if name.startswith("aux"))
    with pytest.raises(ValueError, match="did not run"):
        models.features(net, [idle], torch.zeros(1, 3, 224, 224))
