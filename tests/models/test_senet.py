import math

import pytest
import timm
import torch
from residual_nets import assert_learns, multiply_adds, on_meta, parameters, randomise_norms, sizes
from torch import nn

import models.senet
from models.registry import create
from models.senet import SqueezeExcitation


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("se_resnet50", 28_088_024, 3_860_488_192),
        ("se_resnet101", 49_326_872, 7_574_937_600),
        ("se_resnet152", 66_821_848, 11_288_993_792),
        ("se_resnext50_32x4d", 27_559_896, 4_232_994_816),
        ("se_resnext101_32x4d", 48_955_416, 7_974_739_968),
        ("senet154", 115_088_984, 20_688_363_520),
    ],
)
def test_parameters_and_multiply_adds(name, params, macs):
    model = on_meta(name)
    assert parameters(model) == params
    assert multiply_adds(model, 224) == macs


@pytest.mark.parametrize(
    ("name", "weights", "biases"),
    [
        ("se_resnet50", 2_514_944, 16_048),
        ("se_resnet101", 4_743_168, 34_544),
        ("se_resnet152", 6_578_176, 50_864),
    ],
)
def test_cost_of_the_excitation(name, weights, biases):
    without = parameters(on_meta(name, se=False))
    unbiased = parameters(on_meta(name, bias=False))
    assert without == parameters(on_meta(name.removeprefix("se_")))
    assert unbiased - without == weights
    assert parameters(on_meta(name)) - unbiased == biases


@pytest.mark.parametrize(("reduction", "million"), [(2, 45.7), (4, 35.7), (8, 30.7), (16, 28.1)])
def test_reduction_of_table_10(reduction, million):
    model = on_meta("se_resnet50", reduction=reduction)
    assert parameters(model) / 1e6 == pytest.approx(million, abs=0.1)


def test_no_squeeze_of_table_16():
    macs = multiply_adds(on_meta("se_resnet50", squeeze="none"), 224)
    assert macs / 1e9 == pytest.approx(4.27, abs=0.005)


def test_excitation_widths_of_table_1():
    model = on_meta("se_resnet50")
    widths = [
        (
            model.get_submodule(f"conv{i}_x.0.se.fc1").out_channels,
            model.get_submodule(f"conv{i}_x.0.se.fc2").out_channels,
        )
        for i in (2, 3, 4, 5)
    ]
    assert widths == [(16, 256), (32, 512), (64, 1024), (128, 2048)]


def test_layer_table_of_senet154():
    model = on_meta("senet154")
    layers = ["conv1.0", "conv1", "pool1", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]
    assert list(sizes(model, layers, 224).values()) == [
        (64, 112),
        (128, 112),
        (128, 56),
        (256, 56),
        (512, 28),
        (1024, 14),
        (2048, 7),
    ]
    assert [len(model.get_submodule(f"conv{i}_x")) for i in (2, 3, 4, 5)] == [3, 8, 36, 3]
    for stage, reduce, grouped in ((2, 128, 256), (3, 256, 512), (4, 512, 1024), (5, 1024, 2048)):
        block = model.get_submodule(f"conv{stage}_x.0")
        assert block.conv1.out_channels == reduce
        assert (block.conv2.out_channels, block.conv2.groups) == (grouped, 64)
        assert block.conv2.stride == ((1, 1) if stage == 2 else (2, 2))
        kernel, stride = ((1, 1), (1, 1)) if stage == 2 else ((3, 3), (2, 2))
        assert (block.shortcut[0].kernel_size, block.shortcut[0].stride) == (kernel, stride)
    convs = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    outside = [c for c in convs if c.bias is None and c.kernel_size != (7, 7)]
    assert len(outside) - 4 + 1 == 154


def test_dropout_only_in_senet154():
    assert on_meta("senet154").dropout.p == 0.2
    assert on_meta("senet154", dropout=0.5).dropout.p == 0.5
    assert on_meta("se_resnet50").dropout.p == 0.0


def test_place_of_the_stride():
    assert on_meta("se_resnet50").conv3_x[0].conv1.stride == (2, 2)
    assert on_meta("se_resnext50_32x4d").conv3_x[0].conv1.stride == (1, 1)


def from_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    deep = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
    deep |= {"conv3": "conv1.6", "bn3": "bn1"}
    stem = deep if "layer0.conv3.weight" in state else {"conv1": "conv1", "bn1": "bn1"}
    renamed = {}
    for key, value in state.items():
        if key.startswith("layer0."):
            _, module, tensor = key.split(".")
            key = f"{stem[module]}.{tensor}"
        for layer in range(4, 0, -1):
            key = key.replace(f"layer{layer}.", f"conv{layer + 1}_x.")
        key = key.replace("downsample", "shortcut").replace("se_module", "se")
        renamed[key.replace("last_linear", "fc")] = value
    return renamed


@pytest.mark.parametrize("name", ["se_resnet50", "se_resnet101", "se_resnext50_32x4d", "senet154"])
def test_equals_timms_net(name):
    theirs = timm.create_model(f"legacy_{name.replace('se_', 'se', 1)}", num_classes=5).eval()
    randomise_norms(theirs)
    ours = create(name, num_classes=5).eval()
    ours.load_state_dict(from_timm(theirs.state_dict()))
    x = torch.randn(1, 3, 97, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_without_excitation_the_net_is_resnet():
    ours = create("se_resnet50", se=False, num_classes=5, width=0.125).eval()
    resnet = create("resnet50", num_classes=5, width=0.125).eval()
    resnet.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), resnet(x))


def test_excitation_scales_whole_channels_by_what_it_sees_of_all():
    torch.manual_seed(0)
    excitation = SqueezeExcitation(32, reduction=4)
    x = torch.rand(2, 32, 5, 7) + 0.5
    scale = excitation(x) / x
    torch.testing.assert_close(scale, scale.mean((2, 3), keepdim=True).expand_as(scale))
    assert scale.gt(0).all()
    assert scale.lt(1).all()
    shuffled = x.flatten(2)[:, :, torch.randperm(35)].view_as(x)
    torch.testing.assert_close((excitation(shuffled) / shuffled)[..., 0, 0], scale[..., 0, 0])


@pytest.mark.parametrize(("squeeze", "value"), [("average", 1.0), ("max", 6.0)])
def test_squeeze(squeeze, value):
    excitation = SqueezeExcitation(1, reduction=1, squeeze=squeeze, gate="relu", bias=False)
    nn.init.ones_(excitation.fc1.weight)
    nn.init.ones_(excitation.fc2.weight)
    x = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 6.0]).view(1, 1, 2, 3)
    torch.testing.assert_close(excitation(x), value * x)


def test_no_squeeze_acts_at_each_pixel():
    excitation = SqueezeExcitation(1, reduction=1, squeeze="none", gate="relu", bias=False)
    nn.init.ones_(excitation.fc1.weight)
    nn.init.ones_(excitation.fc2.weight)
    x = torch.rand(1, 1, 3, 3)
    torch.testing.assert_close(excitation(x), x**2)


@pytest.mark.parametrize(
    ("gate", "value"),
    [("sigmoid", 1 / (1 + math.exp(-2))), ("tanh", math.tanh(2)), ("relu", 2.0)],
)
def test_gate(gate, value):
    excitation = SqueezeExcitation(1, reduction=1, gate=gate, bias=False)
    nn.init.ones_(excitation.fc1.weight)
    nn.init.ones_(excitation.fc2.weight)
    x = torch.full((1, 1, 2, 2), 2.0)
    torch.testing.assert_close(excitation(x), value * x)


def closed(block: nn.Module) -> nn.Module:
    """Close the gate: the excitation's output is zero wherever it is placed."""
    nn.init.zeros_(block.se.fc2.weight)
    nn.init.constant_(block.se.fc2.bias, -1e4)
    return block.eval()


@pytest.mark.parametrize("place", ["standard", "pre", "3x3"])
def test_a_closed_gate_on_the_branch_leaves_the_shortcut(place):
    block = closed(create("se_resnet50", width=0.25, place=place).conv2_x[1])
    x = torch.rand(2, block.out_channels, 6, 6)
    torch.testing.assert_close(block(x), x)


def test_a_closed_gate_on_the_shortcut_leaves_the_branch():
    block = closed(create("se_resnet50", width=0.25, place="identity").conv2_x[1])
    x = torch.rand(2, block.out_channels, 6, 6)
    torch.testing.assert_close(block(x), nn.functional.relu(block.residual(x)))


def test_a_closed_gate_behind_the_sum_leaves_nothing():
    block = closed(create("se_resnet50", width=0.25, place="post").conv2_x[1])
    assert not block(torch.rand(2, block.out_channels, 6, 6)).any()


def test_stages():
    model = on_meta("se_resnet50", stages=(4,))
    has = [hasattr(model.get_submodule(f"conv{i}_x.0"), "se") for i in (2, 3, 4, 5)]
    assert has == [False, False, True, False]


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"se": False, "reduction": 8}, "se=False"),
        ({"se": False, "place": "pre"}, "se=False"),
        ({"se": False, "stages": (2,)}, "se=False"),
        ({"stages": ()}, "stages"),
        ({"stages": (1, 2)}, "stages"),
        ({"reduction": 0}, "reduction"),
        ({"gate": "swish"}, "gate"),
        ({"squeeze": "median"}, "squeeze"),
        ({"place": "before"}, "place"),
    ],
)
def test_knobs_that_do_not_work_are_refused(knobs, reason):
    with pytest.raises(ValueError, match=reason):
        on_meta("se_resnet50", **knobs)


def test_unknown_knob():
    with pytest.raises(TypeError):
        on_meta("se_resnet50", groups=2)


@pytest.mark.parametrize("name", ["se_resnet50", "se_resnext50_32x4d", "senet154"])
@pytest.mark.parametrize("side", [64, 99])
def test_any_input_size_at_toy_width(name, side):
    model = on_meta(name, num_classes=5, width=0.125)
    assert model(torch.empty(2, 3, side, side + 3, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("se_resnet50", {}),
        ("se_resnet50", {"place": "identity", "squeeze": "max"}),
        ("se_resnext50_32x4d", {}),
    ],
)
def test_a_few_steps_reduce_the_loss(name, knobs):
    torch.manual_seed(0)
    assert_learns(create(name, num_classes=4, width=0.125, **knobs), side=32, lr=0.02)


def test_fidelity_rows_say_why():
    for rows in models.senet.FIDELITY.values():
        for row in rows:
            assert row.source
            assert row.status == "same" or row.note
