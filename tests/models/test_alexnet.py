import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import alexnet as torchvision_alexnet

import models
from models.alexnet import AlexNet
from models.parts.layers import LocalResponseNorm, OriginalDropout

LAYER_TABLE = {  # fact: channels, side, parameters; NIPS 2012 §3.5
    "conv1": (96, 55, 34_944),
    "pool1": (96, 27, 0),
    "conv2": (256, 27, 307_456),
    "pool2": (256, 13, 0),
    "conv3": (384, 13, 885_120),
    "conv4": (384, 13, 663_936),
    "conv5": (256, 13, 442_624),
    "pool5": (256, 6, 0),
    "fc6": (4096, None, 37_752_832),
    "fc7": (4096, None, 16_781_312),
    "fc8": (1000, None, 4_097_000),
}


def on_meta(**knobs: object) -> AlexNet:
    net = models.create_on_meta("alexnet", **knobs)
    assert isinstance(net, AlexNet)
    return net


def toy(**knobs: object) -> AlexNet:
    torch.manual_seed(0)
    net = models.create("alexnet", **{"num_classes": 5, "width": 0.125, "image_size": 64} | knobs)
    assert isinstance(net, AlexNet)
    return net


def layer_names(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_children()]


@pytest.mark.parametrize("preset", ["authors", "paper"])
@pytest.mark.parametrize("image_size", [224, 227])
def test_layer_table(preset: str, image_size: int) -> None:
    table = models.describe("alexnet", image_size, preset=preset)
    for name, (channels, side, parameters) in LAYER_TABLE.items():
        layer = table[name]
        assert (layer.channels, layer.parameters) == (channels, parameters)
        assert layer.size == (side and (side, side))
    assert table.parameters == 60_965_224
    assert table.multiply_adds == 724_406_816


@pytest.mark.parametrize(
    ("knobs", "parameters"),
    [
        ({"groups": 1}, 62_378_344),
        ({"one_column": True}, 59_798_312),
        ({"conv6": True}, 60_965_224 + 256 * 256 * 9 + 256),
        ({"variant": "one_weird_trick"}, 61_100_840),
        # 2 x 160 filters in conv2, 2 x 4096 units in fc6, 2 x 2048 in fc7: net 150
        ({"groups": "isolated"}, 60_714_408),
        ({"remove": ("fc7",)}, 60_965_224 - 16_781_312),
        ({"fc_channels": 2048}, 2_334_080 + 18_876_416 + 4_196_352 + 2_049_000),
    ],
)
def test_parameters_of_the_variants(knobs: dict[str, object], parameters: int) -> None:
    assert sum(p.numel() for p in on_meta(**knobs).parameters()) == parameters


def test_ungrouped_multiply_adds() -> None:
    assert models.describe("alexnet", groups=1).multiply_adds == 1_135_256_096


def test_receptive_fields() -> None:
    fields = {
        "conv1": (11, 4),
        "pool1": (19, 8),
        "conv2": (51, 8),
        "pool2": (67, 16),
        "conv3": (99, 16),
        "conv4": (131, 16),
        "conv5": (163, 16),
        "pool5": (195, 32),
    }
    table = models.describe("alexnet", preset="paper")
    for name, field in fields.items():
        assert (table[name].receptive_field, table[name].jump) == field


def test_order_of_layers_as_run() -> None:
    assert layer_names(on_meta()) == [
        "conv1", "norm1", "pool1", "relu1",
        "conv2", "relu2", "norm2", "within2", "pool2",
        "conv3", "relu3", "conv4", "relu4", "conv5", "pool5", "relu5",
        "flatten", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8",
    ]  # fmt: skip


def test_order_of_layers_as_written() -> None:
    assert layer_names(on_meta(preset="paper")) == [
        "conv1", "relu1", "norm1", "pool1",
        "conv2", "relu2", "norm2", "pool2",
        "conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5",
        "flatten", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8",
    ]  # fmt: skip


def test_response_norm_of_each_preset() -> None:
    as_run = on_meta().get_submodule("norm1")
    as_written = on_meta(preset="paper").get_submodule("norm1")
    assert isinstance(as_run, LocalResponseNorm)
    assert isinstance(as_written, LocalResponseNorm)
    assert (as_run.size, as_run.k, as_run.beta) == (5, 2.0, 0.75)
    assert (as_run.groups, as_run.scale) == (2, 1e-4 / 5)
    assert (as_written.groups, as_written.scale) == (1, 1e-4)


@pytest.mark.parametrize(
    ("knobs", "std"),
    [
        ({"preset": "authors"}, (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01)),
        ({"preset": "paper"}, (0.01,) * 8),
        ({"preset": "authors", "initialisation": "paper"}, (0.01,) * 8),
    ],
)
def test_initialisation(knobs: dict[str, str], std: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    net = models.create("alexnet", **knobs)
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    biases = (0, 1, 0, 1, 1, 1, 1, 0)
    for name, expected, bias in zip(names, std, biases, strict=True):
        weight = net.get_parameter(f"{name}.weight")
        assert weight.std().item() == pytest.approx(expected, rel=0.02)
        assert abs(weight.mean().item()) < 0.02 * expected
        assert (net.get_parameter(f"{name}.bias") == bias).all()


def test_initialisation_follows_the_generator() -> None:
    one, other = toy(), toy()
    one.reset_parameters(torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    other.reset_parameters(torch.Generator().manual_seed(3))
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_narrow_net_starts_at_the_published_scale() -> None:
    x = 60 * torch.randn(16, 3, 64, 64)
    narrow = models.features(toy(width=0.25).eval(), ("conv2", "fc6"), x)
    full = models.features(toy(width=1.0).eval(), ("conv2", "fc6"), x)
    for name in narrow:
        ratio = (narrow[name] - 1).std() / (full[name] - 1).std()
        assert 0.5 < ratio < 2


def test_logits_depend_on_the_image_only_at_the_0_to_255_scale() -> None:
    net = toy(width=0.5).eval()
    x = torch.randn(16, 3, 64, 64)
    assert net(60 * x).std(0).mean() > 10 * net(x).std(0).mean()


def test_224_and_227_see_the_same_through_zeros() -> None:
    """Sizes round up: a crop of 224 equals one of 227 whose last three rows and columns are 0."""
    net = models.create("alexnet", 5, width=0.125).eval()
    x = 60 * torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(net(x), net(F.pad(x, (0, 3, 0, 3))))


@pytest.mark.parametrize("image_size", [64, 65, 96, 160])
def test_other_image_sizes(image_size: int) -> None:
    assert toy(image_size=image_size)(torch.zeros(2, 3, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"image_size": 51}, r"pool5 \(3x3\).*2x2.*51 px.*52"),
        ({"image_size": 35, "overlapping_pooling": False}, r"pool5 \(2x2\).*36"),
        ({"image_size": 9}, "conv1"),
        ({"groups": 3}, "groups.*isolated"),
        ({"preset": "caffe"}, "preset.*authors"),
        ({"variant": "2014"}, "variant.*one_weird_trick"),
        ({"activation": "swish"}, "activation.*tanh"),
        ({"lrn_alpha_convention": "caffe"}, "lrn_alpha_convention.*divided"),
        ({"lrn": False, "lrn_alpha": 1e-3}, "without lrn"),
        ({"lrn": (), "lrn_alpha_convention": "paper"}, "without lrn"),
        ({"lrn": False, "lrn_k": 1.0}, "without lrn"),
        ({"lrn": False, "pool_before_norm": True}, "without lrn"),
        ({"lrn": ("conv3",)}, "conv3"),
        ({"one_column": True, "groups": 2}, "one column"),
        ({"variant": "one_weird_trick", "groups": 1}, "one column"),
        ({"variant": "one_weird_trick", "one_column": True}, "one_column"),
        ({"remove": ("conv1",)}, "conv1"),
        ({"remove": ("fc6", "fc7"), "dropout": 0.2}, "dropout"),
        ({"remove": ("fc6", "fc7"), "inverted_dropout": True}, "dropout"),
        ({"remove": ("conv2",), "within_map_norm": True}, "conv2"),
    ],
)
def test_knobs_without_effect_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(**knobs)


def test_smallest_image_of_the_2x2_pools_works() -> None:
    assert toy(image_size=36, overlapping_pooling=False)(torch.zeros(1, 3, 36, 36)).shape == (1, 5)


def test_overlap_is_compared_at_equal_map_sizes() -> None:
    overlapping = models.describe("alexnet")
    disjoint = models.describe("alexnet", overlapping_pooling=False)
    assert [a.size for a in overlapping.layers] == [b.size for b in disjoint.layers]
    assert disjoint["pool1"].kernel == (2, 2)


def test_without_lrn_all_three_norms_go() -> None:
    """Net 148, behind the paper's 1.4 and 1.2 points of §3.3, also dropped the unpublished one."""
    assert not [name for name in layer_names(on_meta(lrn=False)) if name[:2] in ("no", "wi")]


def test_lrn_per_layer() -> None:
    assert "norm2" not in layer_names(on_meta(lrn=("conv1",)))
    assert "norm1" not in layer_names(on_meta(lrn=("conv2",)))
    assert "within2" not in layer_names(on_meta(within_map_norm=False))
    assert "within2" in layer_names(on_meta(preset="paper", within_map_norm=True))


def columns_seen_by_fc7(net: nn.Module) -> torch.Tensor:
    """Which half of conv1's filters the first half of fc7's units depends on."""
    net.eval()
    x = 60 * torch.randn(4, 3, 64, 64)
    half = models.features(net, ["fc7"], x)["fc7"].chunk(2, dim=1)[0].sum()
    (grad,) = torch.autograd.grad(half, net.get_parameter("conv1.weight"))
    return torch.stack([part.abs().sum() for part in grad.chunk(2)]) > 0


def test_caffes_replications() -> None:
    knobs = {"preset": "paper", "lrn_alpha_convention": "divided", "lrn_k": 1.0}
    bvlc, caffenet = toy(**knobs), toy(pool_before_norm=True, **knobs)
    assert layer_names(bvlc)[:4] == ["conv1", "relu1", "norm1", "pool1"]
    assert layer_names(caffenet)[:4] == ["conv1", "relu1", "pool1", "norm1"]
    assert layer_names(caffenet)[4:8] == ["conv2", "relu2", "pool2", "norm2"]
    norm = caffenet.get_submodule("norm1")
    assert isinstance(norm, LocalResponseNorm)
    assert (norm.k, norm.scale, norm.groups) == (1.0, 2e-5, 1)


def test_columns() -> None:
    assert columns_seen_by_fc7(toy(width=0.5)).tolist() == [True, True]
    assert columns_seen_by_fc7(toy(width=0.5, groups="isolated")).tolist() == [True, False]
    assert columns_seen_by_fc7(toy(width=0.5, groups="isolated", preset="paper")).tolist() == [
        True,
        False,
    ]


def test_dropout_follows_fc6_and_fc7_and_rests_in_evaluation() -> None:
    net = toy()
    x = 60 * torch.randn(2, 3, 64, 64)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    drops = [m.p for m in on_meta(dropout=0.3).modules() if isinstance(m, OriginalDropout)]
    assert drops == [0.3, 0.3]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "elu", "gelu"])
def test_activations(activation: str) -> None:
    net = toy(activation=activation)
    assert f"{activation}3" in layer_names(net)
    assert net(torch.zeros(1, 3, 64, 64)).isfinite().all()
    expected_bias = 1.0 if activation == "relu" else 0.0
    assert (net.get_parameter("conv2.bias") == expected_bias).all()
    assert (toy(bias=0.1, activation=activation).get_parameter("fc6.bias") == 0.1).all()


@pytest.mark.parametrize("removed", ["conv2", "conv3", "conv4", "conv5", "fc6", "fc7"])
@pytest.mark.parametrize("preset", ["authors", "paper"])
def test_any_middle_layer_can_go_and_pools_stay(removed: str, preset: str) -> None:
    net = toy(remove=(removed,), preset=preset)
    assert removed not in layer_names(net)
    assert f"relu{removed[-1]}" not in layer_names(net)
    assert {"pool1", "pool2", "pool5"} <= set(layer_names(net))
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_one_weird_trick() -> None:
    net = toy(variant="one_weird_trick", width=1.0)
    channels = [net.get_parameter(f"conv{i}.weight").shape[0] for i in range(1, 6)]
    assert channels == [64, 192, 384, 256, 256]
    assert (net.get_parameter("fc8.bias") == -7).all()
    assert "within2" not in layer_names(net)


def test_is_torchvisions_function_where_the_arithmetic_is_the_same() -> None:
    """torchvision's net is the one-weird-trick net without norms, conv1 padded by 2, dropout inverted."""
    theirs = torchvision_alexnet(num_classes=5).eval()
    net = models.create(
        "alexnet", 5, variant="one_weird_trick", lrn=False, inverted_dropout=True
    ).eval()
    ours = dict(net.named_parameters())
    layers = [m for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    with torch.no_grad():
        for name, layer in zip(names, layers, strict=True):
            assert layer.bias is not None
            ours[f"{name}.weight"].copy_(layer.weight)
            ours[f"{name}.bias"].copy_(layer.bias)
    layers[0].padding = (0, 0)
    x = torch.randn(2, 3, 227, 227)
    torch.testing.assert_close(net(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", ["authors", "paper"])
def test_a_few_steps_reduce_the_loss(preset: str) -> None:
    net = toy(width=0.25, dropout=0.0, preset=preset)
    labels = torch.arange(10) % 5
    x = 60 * torch.randn(5, 3, 64, 64)[labels]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_is_the_same_net(dtype: torch.dtype) -> None:
    net = toy(width=0.25).to(dtype).eval()
    x = (60 * torch.randn(2, 3, 64, 64)).to(dtype)
    expected = net(x)
    got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
