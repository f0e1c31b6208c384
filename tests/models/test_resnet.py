import itertools
import math

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

import models.preact_resnet
import models.resnet
import models.resnet_cifar
from models.registry import create


@pytest.mark.parametrize(
    ("name", "knobs", "params", "macs"),
    [
        ("plain18", {}, 11_515_688, 1_794_805_760),
        ("resnet18", {}, 11_515_688, 1_794_805_760),
        ("resnet18", {"shortcut": "B"}, 11_689_512, 1_814_073_344),
        ("resnet18", {"shortcut": "C"}, 12_043_816, 1_878_298_624),
        ("plain34", {}, 21_623_848, 3_644_493_824),
        ("resnet34", {}, 21_623_848, 3_644_493_824),
        ("resnet34", {"shortcut": "B"}, 21_797_672, 3_663_761_408),
        ("resnet34", {"shortcut": "C"}, 22_716_840, 3_830_747_136),
        ("resnet50", {"shortcut": "A"}, 22_780_456, 3_498_311_680),
        ("resnet50", {}, 25_557_032, 3_857_973_248),
        ("resnet50", {"shortcut": "C"}, 40_128_552, 6_324_224_000),
        ("resnet50", {"stride_in": "3x3"}, 25_557_032, 4_089_184_256),
        ("resnet101", {}, 44_549_160, 7_570_194_432),
        ("resnet101", {"stride_in": "3x3"}, 44_549_160, 7_801_405_440),
        ("resnet152", {}, 60_192_808, 11_282_415_616),
        ("resnet152", {"stride_in": "3x3"}, 60_192_808, 11_513_626_624),
    ],
)
def test_parameters_and_multiply_adds_of_the_sheet(name, knobs, params, macs):
    model = on_meta(name, **knobs)
    assert parameters(model) == params
    assert multiply_adds(model, 224) == macs


@pytest.mark.parametrize(
    ("depth", "option_a", "option_b"),
    [
        (20, 269_722, 272_474),
        (32, 464_154, 466_906),
        (44, 658_586, 661_338),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
        (1202, 19_421_274, 19_424_026),
    ],
)
def test_cifar_parameters(depth, option_a, option_b):
    for shortcut, expected in (("A", option_a), (None, option_a), ("B", option_b)):
        model = on_meta("resnet_cifar", num_classes=10, depth=depth, shortcut=shortcut)
        assert parameters(model) == expected


@pytest.mark.parametrize(
    ("depth", "million"), [(20, 40.6), (32, 68.9), (44, 97.2), (56, 125.5), (110, 252.9)]
)
def test_cifar_multiply_adds(depth, million):
    model = on_meta("resnet_cifar", num_classes=10, depth=depth)
    assert multiply_adds(model, 32) / 1e6 == pytest.approx(million, abs=0.05)


@pytest.mark.parametrize(("name", "expansion"), [("resnet34", 1), ("plain18", 1), ("resnet50", 4)])
def test_layer_table(name, expansion):
    layers = ["conv1", "pool1", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "pool5"]
    assert sizes(on_meta(name), layers, 224) == {
        "conv1": (64, 112),
        "pool1": (64, 56),
        "conv2_x": (64 * expansion, 56),
        "conv3_x": (128 * expansion, 28),
        "conv4_x": (256 * expansion, 14),
        "conv5_x": (512 * expansion, 7),
        "pool5": (512 * expansion, 1),
    }


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet18", [2, 2, 2, 2]),
        ("resnet34", [3, 4, 6, 3]),
        ("resnet50", [3, 4, 6, 3]),
        ("resnet101", [3, 4, 23, 3]),
        ("resnet152", [3, 8, 36, 3]),
        ("preact_resnet200", [3, 24, 36, 3]),
    ],
)
def test_blocks_of_each_stage(name, blocks):
    model = on_meta(name)
    assert [len(model.get_submodule(f"conv{i}_x")) for i in (2, 3, 4, 5)] == blocks


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "plain34",
        "resnet50",
        "resnext",
        "se_resnet50",
        "wide_resnet50_2",
        "preact_resnet200",
    ],
)
def test_fewer_blocks(name):
    model = on_meta(name, blocks=(1, 2, 1, 1))
    assert [len(model.get_submodule(f"conv{i}_x")) for i in (2, 3, 4, 5)] == [1, 2, 1, 1]


def test_cifar_layer_table():
    model = on_meta("resnet_cifar", depth=56)
    assert sizes(model, ["conv1", "conv2_x", "conv3_x", "conv4_x"], 32) == {
        "conv1": (16, 32),
        "conv2_x": (16, 32),
        "conv3_x": (32, 16),
        "conv4_x": (64, 8),
    }
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) + 1 == 56


@pytest.mark.parametrize("side", [97, 128])
@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("resnet18", {}),
        ("resnet34", {}),
        ("resnet50", {"stride_in": "3x3"}),
        ("resnet101", {"stride_in": "3x3"}),
    ],
)
def test_v15_form_is_torchvisions_net(name, knobs, side):
    theirs = getattr(torchvision.models, name)(num_classes=7)
    randomise_norms(theirs)
    ours = create(name, num_classes=7, shortcut="B", pool="padded", **knobs)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_default_resnet50_is_not_torchvisions():
    model = create("resnet50", width=0.125)
    first = model.conv3_x[0]
    assert first.conv1.stride == (2, 2)
    assert first.conv2.stride == (1, 1)
    assert model.pool1.ceil_mode
    assert model.pool1.padding == 0


def test_ceil_pool_covers_the_last_pixel_and_starts_at_the_first():
    model = create("resnet18", width=0.125)
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert model.pool1(x).shape[-1] == 3
    assert model.pool1(x)[0, 0, 0, 0] == x[0, 0, 2, 2]
    assert create("resnet18", width=0.125, pool="padded").pool1(x)[0, 0, 0, 0] == x[0, 0, 1, 1]


def test_option_a_takes_every_second_pixel_and_pads_with_zero_channels():
    shortcut = create("resnet18", width=0.125).conv3_x[0].shortcut
    x = torch.randn(2, 8, 7, 7)
    y = shortcut(x)
    assert y.shape == (2, 16, 4, 4)
    assert torch.equal(y[:, :8], x[:, :, ::2, ::2])
    assert not y[:, 8:].any()


def test_shortcuts_of_bottleneck_nets():
    model = create("resnet50", width=0.125)
    assert model.conv2_x[0].shortcut[0].stride == (1, 1)
    assert model.conv3_x[0].shortcut[0].stride == (2, 2)
    assert isinstance(model.conv3_x[0].shortcut[1], nn.BatchNorm2d)
    assert isinstance(model.conv2_x[1].shortcut, nn.Identity)
    everywhere = create("resnet50", width=0.125, shortcut="C")
    assert isinstance(everywhere.conv2_x[1].shortcut, nn.Sequential)


def test_the_last_relu_comes_after_the_addition():
    block = create("resnet18", width=0.125).conv2_x[0].eval()
    x = torch.rand(1, 8, 5, 5) + 1
    nn.init.constant_(block.bn2.weight, 0)
    nn.init.constant_(block.bn2.bias, -0.25)
    torch.testing.assert_close(block(x), x - 0.25)
    assert not create("plain18", width=0.125).conv2_x[0].eval()(x - 9).lt(0).any()


def test_plain_net_ignores_its_input_beside_the_branch():
    block = create("plain18", width=0.125).conv2_x[0].eval()
    nn.init.zeros_(block.bn2.weight)
    assert not block(torch.rand(1, 8, 5, 5)).any()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet_cifar", "preact_resnet200"])
def test_he_initialisation_with_fan_out(name):
    torch.manual_seed(0)
    model = create(name, **({"depth": 20} if name == "resnet_cifar" else {"width": 0.5}))
    checked = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            area = math.prod(module.kernel_size)
            expected = math.sqrt(2 / (area * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert abs(module.weight.mean().item()) < 0.1 * expected
            assert module.bias is None
            checked += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
    assert checked > 0
    assert not model.fc.bias.any()


def test_generator_decides_the_weights():
    model = create("resnet_cifar", depth=8)
    seeded = torch.Generator().manual_seed(3)
    torch.manual_seed(1)
    model.reset_parameters(seeded)
    first = model.state_dict()["conv3_x.0.conv1.weight"].clone()
    torch.manual_seed(2)
    model.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(first, model.state_dict()["conv3_x.0.conv1.weight"])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet_cifar"])
def test_zero_gamma_only_when_asked(name):
    knobs = {"depth": 8} if name == "resnet_cifar" else {"width": 0.125}
    block = create(name, zero_gamma=True, **knobs).conv2_x[1 if name != "resnet_cifar" else 0]
    x = torch.rand(2, block.out_channels, 6, 6)
    torch.testing.assert_close(block(x), x)
    block = create(name, **knobs).conv2_x[1 if name != "resnet_cifar" else 0]
    assert not torch.allclose(block(x), x)


@pytest.mark.parametrize(
    ("name", "knobs", "reason"),
    [
        ("plain18", {"zero_gamma": True}, "shortcut"),
        ("resnet_cifar", {"depth": 110, "shortcut": None, "zero_gamma": True}, "shortcut"),
        ("resnet_cifar", {"depth": 18}, "6n"),
        ("resnet_cifar", {"depth": 2}, "6n"),
        ("resnet50", {"stride_in": "1x3"}, "stride_in"),
        ("resnet50", {"shortcut": "D"}, "shortcut"),
        ("resnet18", {"pool": "floor"}, "pool"),
    ],
)
def test_knobs_that_do_not_work_are_refused(name, knobs, reason):
    with pytest.raises(ValueError, match=reason):
        on_meta(name, **knobs)


def test_unknown_knob():
    with pytest.raises(TypeError):
        on_meta("resnet18", stride_in="3x3")


@pytest.mark.parametrize(
    "name", ["resnet18", "plain34", "resnet50", "resnet101", "preact_resnet200"]
)
@pytest.mark.parametrize("side", [64, 75, 224])
def test_any_input_size(name, side):
    model = on_meta(name, num_classes=5, width=0.125)
    assert model(torch.empty(2, 3, side, side + 1, device="meta")).shape == (2, 5)


def test_evaluation_does_not_depend_on_the_batch():
    model = create("resnet18", width=0.125, num_classes=4).eval()
    randomise_norms(model)
    x = torch.randn(4, 3, 64, 64)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(x)[order], model(x[order]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("resnet18", {}),
        ("resnet34", {"shortcut": "C"}),
        ("plain18", {}),
        ("resnet50", {}),
        ("resnet50", {"shortcut": "A", "zero_gamma": True}),
        ("resnet_cifar", {"depth": 14}),
        ("resnet_cifar", {"depth": 14, "shortcut": None}),
    ],
)
def test_a_few_steps_reduce_the_loss(name, knobs):
    torch.manual_seed(0)
    model = create(name, num_classes=4, width=0.25, **knobs)
    assert_learns(model, side=32, lr=0.01 if name == "resnet50" else 0.05)


@pytest.mark.parametrize("name", sorted(models.resnet.FIDELITY))
def test_fidelity_rows_say_why(name):
    for row in models.resnet.FIDELITY[name]:
        assert row.source
        assert row.status == "same" or row.note


FAMILIES = ("resnet18", "resnet50", "resnext50_32x4d", "se_resnet50", "wide_resnet50_2")


@pytest.mark.parametrize("name", FAMILIES)
def test_dense_classifies_every_window_of_the_last_map(name):
    net = create(name, num_classes=6, width=0.125, image_size=64, blocks=(1, 1, 1, 1)).eval()
    x = torch.randn(2, 3, 96, 160)
    scores = net.dense(x)
    assert scores.shape == (2, 6, 2, 4)  # maps of 3 x 5, windows of 2 x 2
    last = net.pool5.register_forward_pre_hook(lambda _module, args: maps.append(args[0]))
    maps = []
    net(x)
    last.remove()
    for row, column in itertools.product(range(2), range(4)):
        window = maps[0][:, :, row : row + 2, column : column + 2]
        expected = net.fc(window.mean((2, 3)))
        torch.testing.assert_close(scores[:, :, row, column], expected, rtol=1e-4, atol=1e-5)
    # The pool of the whole map weighs its edges as much as its centre; the windows do not.
    assert not torch.allclose(scores.mean((2, 3)), net(x), rtol=1e-3)


@pytest.mark.parametrize(("image_size", "window"), [(64, 2), (112, 4), (224, 7)])
def test_dense_on_a_training_crop_is_forward(image_size, window):
    net = create("resnet18", num_classes=4, width=0.125, image_size=image_size).eval()
    x = torch.randn(1, 3, image_size, image_size)
    torch.testing.assert_close(net.dense(x)[..., 0, 0], net(x))
    assert net.input_size == image_size
    with pytest.raises(ValueError, match=f"window covers {window} x {window}"):
        net.dense(torch.randn(1, 3, image_size - 32, image_size))


def test_preact_parameters_and_multiply_adds():
    model = on_meta("preact_resnet200")
    assert parameters(model) == 64_666_152
    assert multiply_adds(model, 224) == 15_007_481_856
    assert multiply_adds(on_meta("preact_resnet200", stride_in="1x1"), 224) == 14_776_270_848


def test_nothing_follows_the_addition_in_a_preactivation_unit():
    unit = create("preact_resnet200", width=0.125).conv3_x[1].eval()
    for conv in (unit.conv1, unit.conv2, unit.conv3):
        nn.init.zeros_(conv.weight)
    x = torch.randn(2, unit.conv3.out_channels, 6, 6)
    assert torch.equal(unit(x), x)


def test_the_projection_of_a_preactivation_unit_sees_the_activated_input():
    unit = create("preact_resnet200", width=0.125).conv3_x[0].eval()
    for conv in (unit.conv1, unit.conv2, unit.conv3):
        nn.init.zeros_(conv.weight)
    x = -torch.rand(2, unit.conv1.in_channels, 6, 6)
    assert not unit(x).any()


def test_the_stem_activates_for_the_first_preactivation_unit():
    model = create("preact_resnet200", width=0.125)
    norms = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert "bn1" in norms
    assert "conv2_x.0.bn1" not in norms
    assert "conv2_x.1.bn1" in norms
    assert norms[-1] == "bn5"


def test_preact_learns():
    torch.manual_seed(0)
    model = models.preact_resnet.PreActResNet((1, 2, 2, 1), num_classes=4, width=0.25)
    assert_learns(model, side=32)
