import pytest
import torch
import torchvision
from residual_nets import (
    assert_learns,
    from_torchvision,
    multiply_adds,
    on_meta,
    parameters,
    randomise_norms,
    sizes,
)
from torch import nn

import models.resnext
import models.wide_resnet
from models.registry import create


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnext50_32x4d", 25_028_904, 4_230_479_872),
        ("resnext101_32x4d", 44_177_704, 7_969_996_800),
        ("resnext101_64x4d", 83_455_272, 15_460_270_080),
        ("wide_resnet50_2", 68_883_240, 11_398_021_120),
        ("wide_resnet68_2", 89_355_048, 15_405_678_592),
        ("wide_resnet68_3", 176_162_344, 30_498_619_392),
    ],
)
def test_parameters_and_multiply_adds(name, params, macs):
    model = on_meta(name)
    assert parameters(model) == params
    assert multiply_adds(model, 224) == macs


@pytest.mark.parametrize(
    ("depth", "cardinality", "bottleneck_width", "params"),
    [
        (50, 1, 64, 25_557_032),
        (50, 2, 40, 25_425_000),
        (50, 4, 24, 25_292_968),
        (50, 8, 14, 25_603_016),
        (50, 64, 4, 45_192_488),
        (50, 32, 8, 48_021_800),
        (101, 1, 64, 44_549_160),
        (101, 2, 40, 44_456_296),
        (101, 4, 24, 44_363_432),
        (101, 8, 14, 45_104_328),
        (101, 32, 8, 88_791_336),
        (101, 2, 64, 84_198_184),
        (101, 1, 100, 85_611_336),
        (152, 32, 4, 59_951_400),
    ],
)
def test_every_setting_of_the_sheet(depth, cardinality, bottleneck_width, params):
    model = on_meta(
        "resnext", depth=depth, cardinality=cardinality, bottleneck_width=bottleneck_width
    )
    assert parameters(model) == params


def test_layer_table():
    model = on_meta("resnext50_32x4d")
    layers = ["pool1", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]
    assert list(sizes(model, layers, 224).values()) == [
        (64, 56),
        (256, 56),
        (512, 28),
        (1024, 14),
        (2048, 7),
    ]
    for stage, width in (("conv2_x", 128), ("conv3_x", 256), ("conv4_x", 512), ("conv5_x", 1024)):
        grouped = model.get_submodule(f"{stage}.0.conv2")
        assert (grouped.in_channels, grouped.out_channels, grouped.groups) == (width, width, 32)


def test_stride_is_in_the_grouped_convolution():
    block = create("resnext50_32x4d", width=0.125).conv3_x[0]
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)


def test_a_block_is_the_sum_of_its_paths():
    torch.manual_seed(0)
    block = create("resnext", cardinality=4, bottleneck_width=8, width=0.25).conv2_x[1].eval()
    x = torch.randn(1, block.out_channels, 6, 6)
    paths = torch.zeros_like(x)
    d = block.conv2.in_channels // 4
    with torch.no_grad():
        for path in range(4):
            rows = slice(path * d, (path + 1) * d)
            y = nn.functional.conv2d(x, block.conv1.weight[rows])
            y = nn.functional.relu(y / (1 + block.bn1.eps) ** 0.5)
            y = nn.functional.conv2d(y, block.conv2.weight[rows], padding=1)
            y = nn.functional.relu(y / (1 + block.bn2.eps) ** 0.5)
            paths += nn.functional.conv2d(y, block.conv3.weight[:, rows])
        expected = nn.functional.relu(x + paths / (1 + block.bn3.eps) ** 0.5)
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnext101_64x4d", "wide_resnet50_2"])
def test_equals_torchvisions_net_of_that_name(name):
    theirs = getattr(torchvision.models, name)(num_classes=7)
    randomise_norms(theirs)
    ours = create(name, num_classes=7)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 75, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_one_path_of_64_is_resnet50_with_stride_in_the_3x3():
    knobs = {"num_classes": 5, "width": 0.25}
    ours = create("resnext", cardinality=1, bottleneck_width=64, **knobs).eval()
    resnet = create("resnet50", stride_in="3x3", pool="padded", **knobs).eval()
    resnet.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), resnet(x))


def test_without_shortcuts():
    block = create("resnext50_32x4d", width=0.125, shortcut=None).conv2_x[1].eval()
    nn.init.zeros_(block.bn3.weight)
    assert not block(torch.rand(1, block.out_channels, 4, 4)).any()


def test_wide_resnet_is_initialised_by_fan_in():
    torch.manual_seed(0)
    weight = create("wide_resnet50_2", width=0.25).conv5_x[0].conv3.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.05)


def test_depth_that_does_not_exist():
    with pytest.raises(ValueError, match="50, 101 or 152"):
        on_meta("resnext", depth=34)


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_width_must_be_positive(width):
    with pytest.raises(ValueError, match="width"):
        on_meta("resnext50_32x4d", width=width)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2"])
@pytest.mark.parametrize("side", [64, 99])
def test_any_input_size_at_toy_width(name, side):
    model = on_meta(name, num_classes=5, width=0.1)
    assert model(torch.empty(2, 3, side, side + 3, device="meta")).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2"])
def test_a_few_steps_reduce_the_loss(name):
    torch.manual_seed(0)
    assert_learns(create(name, num_classes=4, width=0.125), side=32, lr=0.01)


@pytest.mark.parametrize("module", [models.resnext, models.wide_resnet])
def test_fidelity_rows_say_why(module):
    for rows in module.FIDELITY.values():
        for row in rows:
            assert row.source
            assert row.status == "same" or row.note
