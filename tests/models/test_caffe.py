"""The tests write the files themselves, in every format that Caffe has used for a blob."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import models
from models.pretrained.caffe import RELEASES, Report, load_caffemodel
from models.pretrained.caffemodel import CaffeLayer, read_caffemodel, read_mean_image

# ---- protobuf's wire format, written


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def chunk(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def text(number: int, content: str) -> bytes:
    return chunk(number, content.encode())


def blob(
    values: Tensor, shape: str = "shape", data: str = "packed", sides: tuple[int, ...] = ()
) -> bytes:
    sides = sides or tuple(values.shape)
    numbers = values.flatten().tolist()
    dims = {
        "shape": lambda: chunk(7, chunk(1, b"".join(map(varint, sides)))),
        "unpacked shape": lambda: chunk(7, b"".join(integer(1, n) for n in sides)),
        "legacy": lambda: b"".join(
            integer(i, n) for i, n in enumerate((1,) * (4 - len(sides)) + sides, start=1)
        ),
    }[shape]()
    content = {
        "packed": lambda: chunk(5, struct.pack(f"<{len(numbers)}f", *numbers)),
        "unpacked": lambda: b"".join(b"\x2d" + struct.pack("<f", n) for n in numbers),
        "double": lambda: chunk(8, struct.pack(f"<{len(numbers)}d", *numbers)),
        "unpacked double": lambda: b"".join(b"\x41" + struct.pack("<d", n) for n in numbers),
        "with diff": lambda: (
            chunk(6, bytes(4 * len(numbers))) + chunk(5, struct.pack(f"<{len(numbers)}f", *numbers))
        ),
    }[data]()
    return content + dims


SHAPES = ("shape", "unpacked shape", "legacy")
DATA = ("packed", "unpacked", "double", "unpacked double", "with diff")


def v2_layer(
    name: str, kind: str, blobs: tuple[bytes, ...] = (), geometry: bytes | None = None
) -> bytes:
    convolution = b"" if geometry is None else chunk(106, geometry)
    bottom = text(3, "data")  # a field that the reader does not know
    return chunk(
        100,
        text(1, name) + text(2, kind) + bottom + convolution + b"".join(chunk(7, b) for b in blobs),
    )


def v1_layer(name: str, kind: int, blobs: tuple[bytes, ...] = ()) -> bytes:
    return chunk(2, b"".join(chunk(6, b) for b in blobs) + text(4, name) + integer(5, kind))


def net(*layers: bytes) -> bytes:
    return text(1, "a net") + b"".join(layers)


def written(folder: Path, *layers: bytes) -> Path:
    path = folder / "net.caffemodel"
    path.write_bytes(net(*layers))
    return path


# ---- the format


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data", DATA)
def test_every_form_of_a_blob(shape: str, data: str, tmp_path: Path) -> None:
    weight, bias = torch.randn(4, 3, 2, 2), torch.randn(4)
    path = written(
        tmp_path,
        v2_layer("data", "Input"),
        v2_layer("conv1", "Convolution", (blob(weight, shape, data), blob(bias, shape, data))),
        v1_layer("conv1", 4, (blob(weight, shape, data), blob(bias, shape, data))),
        v1_layer("relu1", 18),
        v1_layer("own", 99),
    )
    layers = read_caffemodel(path)
    assert [(layer.name, layer.type) for layer in layers] == [
        ("data", "Input"),
        ("conv1", "Convolution"),
        ("conv1", "Convolution"),
        ("relu1", "ReLU"),
        ("own", "V1 type 99"),
    ]
    for layer in layers[1:3]:
        assert torch.equal(layer.blobs[0], weight)
        assert layer.blobs[1].shape == ((1, 1, 1, 4) if shape == "legacy" else (4,))
        assert torch.equal(layer.blobs[1].flatten(), bias)
        assert all(b.dtype == torch.float32 for b in layer.blobs)


def test_geometry_is_read_packed_or_not(tmp_path: Path) -> None:
    one, both = integer(3, 2) + integer(4, 5) + integer(6, 4), chunk(3, b"\1\1") + integer(5, 64)
    path = written(
        tmp_path,
        v2_layer("a", "Convolution", (blob(torch.zeros(1)),), one),
        v2_layer("b", "Convolution", (blob(torch.zeros(1)),), both),
    )
    assert [dict(layer.geometry) for layer in read_caffemodel(path)] == [
        {"pad": 2, "stride": 4},
        {"pad": 1, "group": 64},
    ]


FLOATS = st.floats(width=32, allow_nan=False)


@given(
    st.lists(st.integers(1, 4), max_size=4).flatmap(
        lambda sides: st.tuples(
            st.just(tuple(sides)), st.lists(FLOATS, min_size=prod(sides), max_size=prod(sides))
        )
    ),
    st.sampled_from(SHAPES),
    st.sampled_from(DATA),
    st.text(max_size=300),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_blob_comes_back(
    tmp_path: Path, content: tuple[tuple[int, ...], list[float]], shape: str, data: str, name: str
) -> None:
    sides, values = content
    expected = torch.tensor(values).reshape(sides)
    (layer,) = read_caffemodel(
        written(tmp_path, v2_layer(name, "Any", (blob(expected, shape, data),)))
    )
    assert layer.name == name
    assert torch.equal(layer.blobs[0].flatten(), expected.flatten())
    assert shape == "legacy" or layer.blobs[0].shape == sides


WEIGHT, BIAS = torch.ones(2, 3, 2, 2), torch.ones(2)
FIRST = net(v2_layer("conv1", "Convolution", (blob(WEIGHT), blob(BIAS))))
SECOND = v1_layer("fc", 14, (blob(torch.ones(2, 2), "legacy"),))


def test_a_file_cut_anywhere_is_refused_or_has_only_whole_layers(tmp_path: Path) -> None:
    whole, path = FIRST + SECOND, tmp_path / "cut.caffemodel"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length == len(FIRST):
            assert [layer.name for layer in read_caffemodel(path)] == ["conv1"]
        else:
            with pytest.raises(ValueError, match=r"cut\.caffemodel"):
                read_caffemodel(path)
    path.write_bytes(FIRST[:-1])
    with pytest.raises(ValueError, match=r"truncated or not a caffemodel: field 100 at byte 7 is"):
        read_caffemodel(path)


@given(st.binary(max_size=200) | st.builds(lambda junk: FIRST[:30] + junk, st.binary()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_is_refused_and_nothing_else_happens(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    with suppress(ValueError):
        assert all(isinstance(layer, CaffeLayer) for layer in read_caffemodel(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"<html>Quota exceeded</html>",
            "not a caffemodel: no field begins at byte 0: wire type 4",
        ),
        (
            chunk(100, chunk(7, chunk(5, bytes(8)) + chunk(7, chunk(1, b"\3")))),
            "byte 5 has 8 bytes",
        ),
        (
            chunk(100, chunk(7, chunk(5, bytes(7)) + chunk(7, chunk(1, b"\2")))),
            "byte 5 has 7 bytes",
        ),
        (chunk(100, chunk(7, integer(1, 2**64 - 1) + chunk(5, bytes(8)))), "byte 5 has 8 bytes"),
        (b"\xff" * 11, "number at byte 0 does not end"),
        (b"\x12\xff", "ends within the number at byte 1"),
        (
            b"\x12\x80\x80\x80\x80\x10\x00",
            r"field 2 at byte 0 is \d{10} bytes long, but 1 are left",
        ),
        (net(v2_layer("relu", "ReLU")), "no layer with weights"),
    ],
)
def test_errors_say_what_is_wrong_and_where(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_caffemodel(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_caffemodel(tmp_path / "none")


def test_mean_image_in_rgb(tmp_path: Path) -> None:
    path, bgr = tmp_path / "mean.binaryproto", torch.randn(3, 4, 5)
    path.write_bytes(blob(bgr, "legacy", "double"))
    assert torch.equal(read_mean_image(path), bgr.flip(0))
    path.write_bytes(blob(torch.randn(2, 4, 5)))
    with pytest.raises(ValueError, match=r"\(2, 4, 5\), not \(3, H, W\)"):
        read_mean_image(path)
    path.write_bytes(blob(bgr)[:-1])
    with pytest.raises(ValueError, match="not a mean image"):
        read_mean_image(path)


# ---- the networks: (Caffe layer, type, our module) as in the authors' prototxts

Named = Iterator[tuple[str, str, str]]


def plain(*names: str) -> Named:
    for name in names:
        yield name, "InnerProduct" if name.startswith("fc") else "Convolution", name


def alexnet_layers() -> Named:
    yield from plain("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def vgg_layers(*depths: int) -> Named:
    for stage, depth in enumerate(depths, start=1):
        yield from plain(*(f"conv{stage}_{i}" for i in range(1, depth + 1)))
    yield from plain("fc6", "fc7", "fc8")


def googlenet_layers(aux: bool = True) -> Named:
    yield "conv1/7x7_s2", "Convolution", "conv1.conv"
    yield "conv2/3x3_reduce", "Convolution", "conv2_reduce.conv"
    yield "conv2/3x3", "Convolution", "conv2.conv"
    for row in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for part in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5"):
            yield f"inception_{row}/{part}", "Convolution", f"inception_{row}.conv{part}.conv"
        yield f"inception_{row}/pool_proj", "Convolution", f"inception_{row}.pool_proj.conv"
    for head in (1, 2) if aux else ():
        yield f"loss{head}/conv", "Convolution", f"aux{head}.conv.conv"
        yield f"loss{head}/fc", "InnerProduct", f"aux{head}.fc"
        yield f"loss{head}/classifier", "InnerProduct", f"aux{head}.classifier"
    yield "loss3/classifier", "InnerProduct", "classifier"


def normalised(conv: str, bn: str, scale: str, ours: str, our_bn: str) -> Named:
    yield conv, "Convolution", ours
    yield bn, "BatchNorm", our_bn
    yield scale, "Scale", our_bn


def resnet_layers(*depths: int) -> Named:
    yield from normalised("conv1", "bn_conv1", "scale_conv1", "conv1", "bn1")
    for stage, depth in enumerate(depths, start=2):
        for index in range(depth):
            letter = "abcdef"[index] if depth < 7 else "a" if index == 0 else f"b{index}"
            if depths == (3, 4, 23, 3) and stage == 3 and index:
                letter = f"b{index}"  # ResNet-101: res3a, res3b1, res3b2, res3b3
            branches = {"2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}
            if index == 0:
                branches["1"] = "shortcut.0", "shortcut.1"
            for branch, ours in branches.items():
                caffe = f"{stage}{letter}_branch{branch}"
                modules = [f"conv{stage}_x.{index}.{part}" for part in ours]
                yield from normalised(f"res{caffe}", f"bn{caffe}", f"scale{caffe}", *modules)
    yield "fc1000", "InnerProduct", "fc"


def senet_layers(*depths: int, deep_stem: bool = False) -> Named:
    stem = {"conv1/7x7_s2": ("conv1", "bn1")}
    if deep_stem:
        stem = {
            "conv1_1/3x3_s2": ("conv1.0", "conv1.1"),
            "conv1_2/3x3": ("conv1.3", "conv1.4"),
            "conv1_3/3x3": ("conv1.6", "bn1"),
        }
    for caffe, ours in stem.items():
        yield from normalised(caffe, f"{caffe}/bn", f"{caffe}/bn/scale", *ours)
    for stage, depth in enumerate(depths, start=2):
        for index in range(depth):
            block, ours_block = f"conv{stage}_{index + 1}", f"conv{stage}_x.{index}"
            parts = {
                "1x1_reduce": ("conv1", "bn1"),
                "3x3": ("conv2", "bn2"),
                "1x1_increase": ("conv3", "bn3"),
            }
            if index == 0:
                parts["1x1_proj"] = "shortcut.0", "shortcut.1"
            for part, ours in parts.items():
                caffe = f"{block}_{part}"
                modules = [f"{ours_block}.{module}" for module in ours]
                yield from normalised(caffe, f"{caffe}/bn", f"{caffe}/bn/scale", *modules)
            yield f"{block}_1x1_down", "Convolution", f"{ours_block}.se.fc1"
            yield f"{block}_1x1_up", "Convolution", f"{ours_block}.se.fc2"
    yield "classifier", "InnerProduct", "fc"


FACTOR = 1024.0  # a power of two: the division is exact
NARROW: dict[str, Any] = {"width": 1 / 8}
SMALL_ALEXNET = NARROW | {"image_size": 67}
SMALL_VGG = NARROW | {"image_size": 32}
NETS: dict[str, tuple[list[tuple[str, str, str]], dict[str, Any]]] = {
    "alexnet": (list(alexnet_layers()), SMALL_ALEXNET),
    "caffenet": (list(alexnet_layers()), SMALL_ALEXNET),
    "vgg_d": (list(vgg_layers(2, 2, 3, 3, 3)), SMALL_VGG),
    "vgg_e": (list(vgg_layers(2, 2, 4, 4, 4)), SMALL_VGG),
    "googlenet": (list(googlenet_layers()), NARROW | {"image_size": 80}),
    "resnet50": (list(resnet_layers(3, 4, 6, 3)), NARROW),
    "resnet101": (list(resnet_layers(3, 4, 23, 3)), NARROW),
    "resnet152": (list(resnet_layers(3, 8, 36, 3)), NARROW),
    "se_resnet50": (list(senet_layers(3, 4, 6, 3)), NARROW),
    "se_resnet101": (list(senet_layers(3, 4, 23, 3)), NARROW),
    "se_resnet152": (list(senet_layers(3, 8, 36, 3)), NARROW),
    "se_resnext50_32x4d": (list(senet_layers(3, 4, 6, 3)), NARROW),
    "se_resnext101_32x4d": (list(senet_layers(3, 4, 23, 3)), NARROW),
    "senet154": (list(senet_layers(3, 8, 36, 3, deep_stem=True)), NARROW),
}


def random_model(network: str, num_classes: int = 7) -> nn.Module:
    """The network that a release should become, small, no weight or statistic at its default."""
    release = RELEASES[network]
    torch.manual_seed(5)
    model = models.create(release.network, num_classes, **dict(release.knobs) | NETS[network][1])
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.2, 1.0)
        elif tensor.dim() == 1:
            tensor.normal_(0, 0.1)
    return model.eval()


def caffe_blobs(state: dict[str, Tensor], kind: str, module: str) -> tuple[Tensor, ...]:
    if kind == "BatchNorm":
        mean, var = state[f"{module}.running_mean"], state[f"{module}.running_var"]
        return mean * FACTOR, var * FACTOR, torch.tensor([FACTOR])
    weight = state[f"{module}.weight"]
    if weight.dim() == 4 and weight.shape[1] == 3:
        weight = weight.flip(1)
    bias = state.get(f"{module}.bias")
    return (weight,) if bias is None else (weight, bias)


def exported(model: nn.Module, layers: list[tuple[str, str, str]], v1: bool) -> list[bytes]:
    state = model.state_dict()
    lines = []
    for name, kind, module in layers:
        blobs = caffe_blobs(state, kind, module)
        if v1:
            number = {"Convolution": 4, "InnerProduct": 14}[kind]
            lines.append(v1_layer(name, number, tuple(blob(b, "legacy") for b in blobs)))
        else:
            lines.append(v2_layer(name, kind, tuple(blob(b) for b in blobs)))
    return lines


@pytest.mark.parametrize("network", NETS)
def test_a_network_comes_back(network: str, tmp_path: Path) -> None:
    layers, knobs = NETS[network]
    model = random_model(network)
    v1 = not any(kind == "BatchNorm" for _, kind, _ in layers)  # which V1 does not have
    path = written(tmp_path, *exported(model, layers, v1))
    loaded, report = load_caffemodel(path, network, **knobs)
    assert not loaded.training
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert theirs[name].is_contiguous()
        assert torch.equal(theirs[name], tensor), name
    x = torch.randn(1, 3, knobs.get("image_size", 64), knobs.get("image_size", 64))
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert report.num_classes == 7
    assert [match.layer.name for match in report.matches] == [name for name, _, _ in layers]
    assert str(report).count("BGR to RGB") == 1


def test_every_release_is_tried() -> None:
    assert NETS.keys() == RELEASES.keys()


def test_full_size_networks_have_exactly_these_layers() -> None:
    for network, (layers, _) in NETS.items():
        release = RELEASES[network]
        model = models.create_on_meta(release.network, **release.knobs)
        modules = {name.rpartition(".")[0] for name in model.state_dict()}
        assert {module for _, _, module in layers} == modules


def load(path: Path, network: str) -> tuple[nn.Module, Report]:
    return load_caffemodel(path, network, **NETS[network][1])


def test_loaded_networks_train_and_save(tmp_path: Path) -> None:
    model = random_model("resnet50")
    path = written(tmp_path, *exported(model, NETS["resnet50"][0], v1=False))
    loaded, _ = load(path, "resnet50")
    loaded.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())
    models.save_weights(
        loaded, tmp_path / "w.safetensors", models.Provenance("resnet50", tuple("abcdefg"), NARROW)
    )


def test_normalisation_and_conv1_bias_by_hand(tmp_path: Path) -> None:
    lines = exported(random_model("resnet50"), NETS["resnet50"][0], v1=False)
    weight, bias = torch.randn(8, 3, 7, 7), torch.randn(8)
    mean, var, gamma, beta = torch.randn(8), torch.rand(8), torch.randn(8), torch.randn(8)
    factor = torch.tensor([0.25])
    lines[:3] = [
        v2_layer("conv1", "Convolution", (blob(weight), blob(bias))),
        v2_layer("bn_conv1", "BatchNorm", (blob(mean), blob(var), blob(factor, sides=(1,)))),
        v2_layer("scale_conv1", "Scale", (blob(gamma), blob(beta))),
    ]
    loaded, report = load(written(tmp_path, *lines), "resnet50")
    rgb = torch.randn(2, 3, 32, 32)
    x = F.conv2d(rgb[:, [2, 1, 0]], weight, bias, stride=2, padding=3)
    deviation = (var / 0.25 + 1e-5).sqrt().view(-1, 1, 1)
    x = (x - (mean / 0.25).view(-1, 1, 1)) / deviation
    x = x * gamma.view(-1, 1, 1) + beta.view(-1, 1, 1)
    ours = loaded.get_submodule("bn1")(loaded.get_submodule("conv1")(rgb))
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)
    assert report.matches[0].into == ("conv1.weight", "bn1.running_mean")
    assert "bias folded into the mean" in str(report.matches[0])


def test_a_factor_of_zero_means_statistics_of_zero(tmp_path: Path) -> None:
    lines = exported(random_model("resnet50"), NETS["resnet50"][0], v1=False)
    zero = blob(torch.tensor([0.0]))
    lines[1] = v2_layer("bn_conv1", "BatchNorm", (blob(torch.ones(8)), blob(torch.ones(8)), zero))
    loaded, _ = load(written(tmp_path, *lines), "resnet50")
    assert not loaded.get_buffer("bn1.running_mean").any()
    assert not loaded.get_buffer("bn1.running_var").any()


def test_a_bias_that_no_normalisation_follows(tmp_path: Path) -> None:
    model = random_model("resnet50")
    layers = NETS["resnet50"][0]
    lines = exported(model, layers, v1=False)
    at = [name for name, _, _ in layers].index("res2a_branch1")
    weight = model.get_parameter("conv2_x.0.shortcut.0.weight")
    blobs = blob(weight), blob(torch.ones(len(weight)))
    lines[at] = v2_layer("res2a_branch1", "Convolution", blobs)
    with pytest.raises(ValueError, match="partly unused: res2a_branch1"):
        load(written(tmp_path, *lines), "resnet50")


@pytest.mark.parametrize("network", ["alexnet", "caffenet"])
def test_alexnet_of_caffe_by_hand(network: str, tmp_path: Path) -> None:
    model = random_model(network)
    path = written(tmp_path, *exported(model, NETS[network][0], v1=True))
    loaded, report = load(path, network)
    blobs = {layer.name: layer.blobs for layer in read_caffemodel(path)}

    def conv(x: Tensor, name: str, **geometry: int) -> Tensor:
        weight, bias = blobs[name]
        return F.relu(F.conv2d(x, weight, bias.flatten(), **geometry))

    def norm(x: Tensor) -> Tensor:  # Caffe's default k is 1, its alpha is divided by the window
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def pool_and_norm(x: Tensor) -> Tensor:
        return norm(pool(x)) if network == "caffenet" else pool(norm(x))

    rgb = torch.randn(2, 3, 67, 67) * 60
    x = pool_and_norm(conv(rgb.flip(1), "conv1", stride=4))
    x = pool_and_norm(conv(x, "conv2", padding=2, groups=2))
    x = conv(x, "conv3", padding=1)
    x = conv(x, "conv4", padding=1, groups=2)
    x = pool(conv(x, "conv5", padding=1, groups=2)).flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        weight, bias = blobs[name]
        assert weight.shape[:2] == (1, 1)
        x = F.linear(x, weight[0, 0], bias.flatten())
        x = x if name == "fc8" else F.relu(x)
    torch.testing.assert_close(loaded(rgb), x, rtol=1e-5, atol=1e-5)
    assert report.preprocessing.input_size == 67
    assert RELEASES[network].knobs["image_size"] == 227
    red, green, blue = report.preprocessing.mean_rgb
    assert red > green > blue  # of ImageNet


def test_channel_order_of_your_own_file(tmp_path: Path) -> None:
    path = written(tmp_path, *exported(random_model("vgg_d"), NETS["vgg_d"][0], v1=True))
    bgr, _ = load_caffemodel(path, "vgg_d", **SMALL_VGG)
    rgb, _ = load_caffemodel(path, "vgg_d", channel_order="RGB", **SMALL_VGG)
    name = "conv1_1.weight"
    assert torch.equal(bgr.get_parameter(name).flip(1), rgb.get_parameter(name))
    with pytest.raises(ValueError, match="channel_order must be one of BGR, RGB"):
        load_caffemodel(path, "vgg_d", channel_order="GBR", **SMALL_VGG)


def test_googlenet_without_auxiliary_heads(tmp_path: Path) -> None:
    model = random_model("googlenet")
    path = written(tmp_path, *exported(model, list(googlenet_layers(aux=False)), v1=False))
    loaded, report = load(path, "googlenet")
    assert report.knobs["aux_heads"] == "none"
    x = torch.randn(1, 3, 80, 80)
    torch.testing.assert_close(loaded(x), model(x))


# ---- what does not fit


@pytest.mark.parametrize(
    ("exporter", "network", "message"),
    [
        ("vgg_e", "vgg_d", r"unused: conv3_4 \(Convolution 32x32x3x3 1x1x1x32\) -> UNUSED"),
        ("vgg_d", "vgg_e", r"missing: conv3_4\.weight"),
        ("resnet101", "resnet50", r"unused: res4b22_branch2c \(Convolution"),
        ("resnet50", "resnet101", r"missing: conv4_x\.22\.conv3\.weight"),
        ("se_resnet50", "se_resnext50_32x4d", r"does not fit .* of conv2_x\.0\.conv1\.weight"),
        ("resnet50", "se_resnet50", "no classifier among conv1, bn_conv1"),
    ],
)
def test_the_wrong_network(exporter: str, network: str, message: str, tmp_path: Path) -> None:
    layers = NETS[exporter][0]
    v1 = exporter.startswith("vgg")
    path = written(tmp_path, *exported(random_model(exporter), layers, v1))
    with pytest.raises(ValueError, match=message):
        load(path, network)


def test_alexnet_and_caffenet_are_distinguished_by_their_layers(tmp_path: Path) -> None:
    lines = exported(random_model("alexnet"), NETS["alexnet"][0], v1=True)
    lines[1:1] = [v1_layer("norm1", 15), v1_layer("pool1", 17)]
    path = written(tmp_path, *lines)
    load(path, "alexnet")
    with pytest.raises(ValueError, match="caffenet has pool1 before norm1; the file does not"):
        load(path, "caffenet")


def test_a_stride_in_another_place_is_another_network(tmp_path: Path) -> None:
    model = random_model("resnet50")
    layers = NETS["resnet50"][0]
    lines = exported(model, layers, v1=False)
    names = [name for name, _, _ in layers]
    for name, stride in (("res3a_branch2a", 1), ("res3a_branch2b", 2)):
        module = f"conv3_x.0.conv{'ab'.index(name[-1]) + 1}"
        blobs = tuple(blob(b) for b in caffe_blobs(model.state_dict(), "Convolution", module))
        lines[names.index(name)] = v2_layer(name, "Convolution", blobs, integer(6, stride))
    path = written(tmp_path, *lines)
    with pytest.raises(ValueError, match="res3a_branch2a: stride 1 in the file, 2 in ours"):
        load(path, "resnet50")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (v2_layer("fc9", "InnerProduct", (blob(torch.ones(2, 2)),)), r"unused: fc9 \(InnerProduct"),
        (v2_layer("prelu1", "PReLU", (blob(torch.ones(2)),)), r"unused: prelu1 \(PReLU 2\)"),
        (
            v2_layer("fc8", "InnerProduct", (blob(torch.ones(7, 512)),)),
            "fc8.weight already comes from",
        ),
        (
            v2_layer("b", "BatchNorm", (blob(torch.ones(2)),) * 5),
            r"unused: b \(BatchNorm 2 2 2 2 2\)",
        ),
    ],
)
def test_unknown_layers_are_listed(line: bytes, message: str, tmp_path: Path) -> None:
    lines = exported(random_model("vgg_d"), NETS["vgg_d"][0], v1=False)
    with pytest.raises(ValueError, match=message) as caught:
        load(written(tmp_path, *lines, line), "vgg_d")
    assert "conv1_1 (Convolution 8x3x3x3 8) -> conv1_1.weight, conv1_1.bias" in str(caught.value)


def test_unknown_release(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'resnet15'; did you mean resnet1"):
        load_caffemodel(tmp_path / "x", "resnet15")
