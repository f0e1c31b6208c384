import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.zfnet import ZFNet, renormalise_after_step, renormalise_filters

LAYER_TABLE = {  # channels, side, parameters, receptive field, jump; Fig. 3
    "conv1": (96, 110, 14_208, 7, 2),
    "pool1": (96, 55, 0, 11, 4),
    "conv2": (256, 26, 614_656, 27, 8),
    "pool2": (256, 13, 0, 43, 16),
    "conv3": (384, 13, 885_120, 75, 16),
    "conv4": (384, 13, 1_327_488, 107, 16),
    "conv5": (256, 13, 884_992, 139, 16),
    "pool5": (256, 6, 0, 171, 32),
    "fc6": (4096, None, 37_752_832, None, None),
    "fc7": (4096, None, 16_781_312, None, None),
    "fc8": (1000, None, 4_097_000, None, None),
}


def toy(**knobs: object) -> ZFNet:
    torch.manual_seed(0)
    net = models.create("zfnet", **{"num_classes": 5, "width": 0.125, "image_size": 64} | knobs)
    assert isinstance(net, ZFNet)
    return net


def layer_names(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_children()]


def test_layer_table() -> None:
    table = models.describe("zfnet")
    for name, (channels, side, parameters, field, jump) in LAYER_TABLE.items():
        layer = table[name]
        assert (layer.channels, layer.parameters) == (channels, parameters)
        assert layer.size == (side and (side, side))
        assert (layer.receptive_field, layer.jump) == (field, jump)
        assert layer.groups == 1
    assert table.parameters == 62_357_608
    assert table.multiply_adds == 1_168_032_896


@pytest.mark.parametrize(
    ("knobs", "parameters"),
    [
        ({"wider": True}, 107_627_624),
        ({"fc_channels": 2048}, 28_848_232),
        ({"fc_channels": 8192}, 154_542_184),
        ({"wider": True, "fc_channels": 8192}, 237_560_936),
        ({"remove": ("fc7",)}, 62_357_608 - 16_781_312),
        ({"remove": ("conv3", "conv4")}, 62_357_608 - 885_120 - 1_327_488 - 128 * 256 * 9),
    ],
)
def test_parameters_of_table_3(knobs: dict[str, object], parameters: int) -> None:
    assert models.describe("zfnet", **knobs).parameters == parameters


def test_norm_follows_pool() -> None:
    assert layer_names(toy())[:8] == [
        "conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2",
    ]  # fmt: skip
    assert not [name for name in layer_names(toy(lrn=False)) if name.startswith("norm")]


def test_initialisation() -> None:
    torch.manual_seed(0)
    net = models.create("zfnet")
    for name in (*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"):
        assert net.get_parameter(f"{name}.weight").std().item() == pytest.approx(0.01, rel=0.02)
        assert not net.get_parameter(f"{name}.bias").any()


@pytest.mark.parametrize(
    "removed", [("conv3", "conv4"), ("fc7",), ("fc6", "fc7"), ("conv3", "conv4", "fc6", "fc7")]
)
def test_rows_of_table_3_run(removed: tuple[str, ...]) -> None:
    net = toy(remove=removed)
    assert not set(removed) & set(layer_names(net))
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("stem", [(11, 2), (7, 4)])
def test_stems_between_alexnets_and_ours(stem: tuple[int, int]) -> None:
    conv1 = models.describe("zfnet", stem=stem)["conv1"]
    assert (conv1.kernel, conv1.stride) == ((stem[0],) * 2, (stem[1],) * 2)


def test_stem_for_small_images() -> None:
    table = models.describe("zfnet", 64, stem=(3, 1), width=0.25)
    assert table["pool5"].size == (3, 3)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"image_size": 62}, r"pool5 \(3x3\).*2x2.*62 px.*63"),
        ({"image_size": 14}, r"conv2 \(5x5\)"),
        ({"remove": ("conv2",)}, "conv2"),
        ({"remove": ("fc6", "fc7"), "fc_channels": 2048}, "fc_channels"),
        ({"remove": ("conv3", "conv4", "conv5"), "wider": True}, "wider"),
    ],
)
def test_knobs_without_effect_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy(**knobs)


def test_smallest_image_works() -> None:
    assert toy(image_size=63)(torch.zeros(1, 3, 63, 63)).shape == (1, 5)


def rms(net: nn.Module, name: str) -> torch.Tensor:
    return net.get_parameter(f"{name}.weight").detach().square().mean((1, 2, 3)).sqrt()


def test_renormalisation_bounds_the_rms_of_large_filters_only() -> None:
    net = toy()
    with torch.no_grad():
        net.get_parameter("conv1.weight")[0] *= 100
        net.get_parameter("conv3.weight")[2] = 0
    before = {name: p.clone() for name, p in net.named_parameters()}
    assert rms(net, "conv1")[0] > 0.5
    renormalise_filters(net)
    assert rms(net, "conv1")[0].item() == pytest.approx(0.1, rel=1e-5)
    direction = F.cosine_similarity(
        before["conv1.weight"][0].flatten(), net.get_parameter("conv1.weight")[0].flatten(), dim=0
    )
    assert direction.item() == pytest.approx(1)
    before["conv1.weight"][0] = net.get_parameter("conv1.weight")[0].detach()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])


def test_renormalisation_follows_the_step_until_undone() -> None:
    net = toy()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    hook = renormalise_after_step(net, optimizer, largest_rms=0.05)

    def step_with_large_gradients() -> None:
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    step_with_large_gradients()
    for i in range(1, 6):
        assert rms(net, f"conv{i}").max() <= 0.05 * (1 + 1e-5)
    hook.remove()
    step_with_large_gradients()
    assert rms(net, "conv1").max() > 0.5


def test_a_few_steps_reduce_the_loss() -> None:
    net = toy(width=0.25, dropout=0.0)
    labels = torch.arange(10) % 5
    x = 60 * torch.randn(5, 3, 64, 64)[labels]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    renormalise_after_step(net, optimizer)
    losses = []
    for _ in range(50):
        loss = F.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
