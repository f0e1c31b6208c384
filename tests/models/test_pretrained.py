"""No test uses the network: the caches are temporary folders, and the weights are generated."""

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from models.pretrained.libraries import load_pretrained
from models.pretrained.preprocessing import Preprocessing

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both libraries."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def squeezenet(num_classes: int = 1000) -> nn.Module:
    torch.manual_seed(3)
    return torchvision.models.squeezenet1_1(weights=None, num_classes=num_classes).eval()


def saved(model: nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


def logits(model: nn.Module, side: int = 224) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(1, 3, side, side, generator=generator))


@pytest.mark.parametrize("file", ["w.pth", "w.safetensors"])
def test_torchvision_from_a_file(file: str, tmp_path: Path) -> None:
    original = squeezenet()
    path = saved(original, tmp_path / file)
    model, preprocessing = load_pretrained("torchvision:squeezenet1_1", path)
    assert not model.training
    assert torch.equal(logits(model), logits(original))
    assert preprocessing.input_size == 224
    assert (preprocessing.mean_rgb, preprocessing.std_rgb) == tuple(
        pytest.approx(values) for values in IMAGENET
    )


def test_timm_from_a_file(tmp_path: Path) -> None:
    original = timm.create_model("mobilenetv3_small_050", num_classes=10).eval()
    path = saved(original, tmp_path / "w.pth")
    model, preprocessing = load_pretrained("timm:mobilenetv3_small_050", path, num_classes=10)
    assert torch.equal(logits(model), logits(original))
    assert preprocessing.input_size == 224
    assert preprocessing.std_rgb == pytest.approx(IMAGENET[1])


def test_the_normalisation_is_that_of_the_weights(tmp_path: Path) -> None:
    path = saved(timm.create_model("test_vit"), tmp_path / "w.pth")
    _, preprocessing = load_pretrained("timm:test_vit", path)
    assert preprocessing == Preprocessing(160, (127.5,) * 3, (127.5,) * 3)


@pytest.mark.parametrize("wrap", ["state_dict", "model"])
def test_a_checkpoint_around_the_state_dict(wrap: str, tmp_path: Path) -> None:
    original = squeezenet()
    state = OrderedDict((f"module.{key}", value) for key, value in original.state_dict().items())
    torch.save({"epoch": 90, wrap: state}, tmp_path / "checkpoint.pth.tar")
    model, _ = load_pretrained("torchvision:squeezenet1_1", tmp_path / "checkpoint.pth.tar")
    assert torch.equal(logits(model), logits(original))


def test_files_from_before_batches_were_counted(tmp_path: Path) -> None:
    original = torchvision.models.resnet18(weights=None).eval()
    state = {k: v for k, v in original.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    model, _ = load_pretrained("torchvision:resnet18", tmp_path / "w.pth")
    assert torch.equal(logits(model), logits(original))


def test_torchvisions_googlenet_rescales_its_input_as_its_weights_need(tmp_path: Path) -> None:
    original = torchvision.models.googlenet(init_weights=False, transform_input=True).eval()
    path = saved(original, tmp_path / "w.pth")
    model, _ = load_pretrained("torchvision:googlenet", path)
    assert torch.equal(logits(model), logits(original))
    original.aux1 = original.aux2 = None
    model, _ = load_pretrained("torchvision:googlenet", saved(original, tmp_path / "w.pth"))
    assert torch.equal(logits(model), logits(original))


def test_torchvisions_cache_is_used_and_the_network_is_not(
    caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = squeezenet()
    (folder := caches / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    saved(original, folder / url.rpartition("/")[2])
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    for name in ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1.IMAGENET1K_V1"):
        model, _ = load_pretrained(name)
        assert torch.equal(logits(model), logits(original))


@pytest.mark.parametrize("name", ["legacy_seresnet50", "test_vit"])  # by URL, on a hub
def test_timms_cache_is_used(name: str, caches: Path) -> None:
    original = timm.create_model(name).eval()
    published = timm.get_pretrained_cfg(name)
    with pytest.raises(ValueError, match="not on this machine: give their path, or allow"):
        load_pretrained(f"timm:{name}")
    if published.hf_hub_id:
        folder = caches / "hub" / f"models--{published.hf_hub_id.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
        (folder / "snapshots" / "abc").mkdir(parents=True)
        saved(original, folder / "snapshots" / "abc" / "model.safetensors")
    else:
        (folder := caches / "torch" / "hub" / "checkpoints").mkdir(parents=True)
        saved(original, folder / published.url.rpartition("/")[2])
    model, preprocessing = load_pretrained(f"timm:{name}")
    side = preprocessing.input_size
    assert torch.equal(logits(model, side), logits(original, side))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "'resnet50' does not say where the network comes from: use torchvision:NAME"),
        ("torchvision:resnet51", "no torchvision:resnet51; did you mean resnet50,"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no torchvision:fasterrcnn"),
        ("torchvision:resnet50.IMAGENET1K_V3", "did you mean IMAGENET1K_V[12], IMAGENET1K_V[12]"),
        ("timm:legacy_senet15", "did you mean legacy_senet154"),
        ("timm:resnet50.a1_in2k", "did you mean resnet50.a1_in1k"),
        ("torchvision:squeezenet1_1", "not on this machine: give their path, or allow the"),
        ("timm:resnet50", r"not on this machine.*\(from timm/resnet50.a1_in1k\)"),
        ("timm:cspresnet50d", "timm publishes no weights for cspresnet50d: give the path"),
        ("caffe:vgg_d", "needs weights: give the path of its .caffemodel"),
        ("no_such_package.nets:make", "no module 'no_such_package' on the path"),
        ("torchvisoin:resnet50", "other names begin with torchvision:"),
        ("models.resnet:resnet5", "no models.resnet:resnet5; did you mean resnet50"),
    ],
)
def test_what_cannot_be_found(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_pretrained(name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights at .*gone\.pth"):
        load_pretrained("torchvision:squeezenet1_1", tmp_path / "gone.pth")


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this ran",)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": squeezenet().state_dict(), "args": Code()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds Python objects.*save model\.state_dict\(\)"):
        load_pretrained("torchvision:squeezenet1_1", tmp_path / "w.pth")
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 but no archive"])
def test_damaged_files(file: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"w\.{file[2:]} is "):
        load_pretrained("torchvision:squeezenet1_1", tmp_path / file)


def test_caffe_by_name(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="not a caffemodel: no field begins at byte 0"):
        load_pretrained("caffe:vgg_d", tmp_path / "w.caffemodel")


def test_not_a_state_dict(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="no state dict but a list"):
        load_pretrained("torchvision:squeezenet1_1", tmp_path / "w.pth")


def test_another_number_of_classes(tmp_path: Path) -> None:
    path = saved(squeezenet(10), tmp_path / "w.pth")
    load_pretrained("torchvision:squeezenet1_1", path, num_classes=10)
    with pytest.raises(ValueError, match="has 10 classes, not 1000: load it with num_classes=10"):
        load_pretrained("torchvision:squeezenet1_1", path)
    with pytest.raises(ValueError, match=r"published weights .* have 1000 classes, not 10"):
        load_pretrained("timm:resnet50", num_classes=10)


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = saved(squeezenet(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"missing: bn1\.bias, .*not in the network: classifier"):
        load_pretrained("torchvision:resnet18", path)
    with pytest.raises(ValueError, match=r"torchvision:squeezenet1_0: .* of a different shape"):
        load_pretrained("torchvision:squeezenet1_0", path)


FACTORIES = """
from torch import nn
from models.pretrained.preprocessing import Preprocessing

def net(classes=1000):
    layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes)
    return nn.Sequential(*layers), Preprocessing(96, (120.0, 110.0, 100.0))

def bare():
    return net()[0]

def narrow():
    return net(10)

def needs():
    import a_package_that_is_not_there
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_nets.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return "own_nets"


def test_your_own_factory(own_module: str, tmp_path: Path) -> None:
    model, preprocessing = load_pretrained(f"{own_module}:net")
    assert preprocessing == Preprocessing(96, (120.0, 110.0, 100.0), (1.0, 1.0, 1.0))
    path = saved(model, tmp_path / "w.safetensors")
    again, _ = load_pretrained(f"{own_module}:net", path)
    assert torch.equal(logits(again, 96), logits(model, 96))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("bare", "bare returned Sequential: it must return a module and"),
        ("narrow", r"turns one 96x96 image into \(1, 10\), not into logits of shape \(1, 1000\)"),
        ("nett", "no own_nets:nett; did you mean net"),
    ],
)
def test_factories_that_do_not_fit(own_module: str, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_pretrained(f"{own_module}:{function}")


def test_errors_of_the_users_code_are_its_own(own_module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_pretrained(f"{own_module}:needs")
