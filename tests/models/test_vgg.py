import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.registry import create, create_on_meta
from models.vgg import FIDELITY, VGG, initialise_from

NAMES = ["vgg_a", "vgg_a_lrn", "vgg_b", "vgg_c", "vgg_d", "vgg_e"]
FC_PARAMETERS = 123_642_856


def on_meta(name: str, **knobs) -> VGG:
    return create_on_meta(name, **knobs).eval()


def small(name: str, **knobs) -> VGG:
    return create(name, **{"num_classes": 4, "width": 0.125, "image_size": 32, **knobs})


def convolutions(model: VGG) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def output_shapes(model: VGG, side: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(
            lambda _module, _args, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    model(torch.empty(1, 3, side, side, device="meta"))
    return shapes


@pytest.mark.parametrize(
    ("name", "knobs", "conv_parameters", "multiply_adds", "conv_outputs"),
    [
        ("vgg_a", {}, 9_220_480, 7.609, 7_426_048),
        ("vgg_a_lrn", {}, 9_220_480, 7.609, 7_426_048),
        ("vgg_b", {}, 9_404_992, 11.308, 12_242_944),
        ("vgg_b", {"pairs_as_5x5": True}, 10_860_672, 9.356, 6_121_472),
        ("vgg_c", {}, 9_996_096, 11.771, 13_547_520),
        ("vgg_d", {}, 14_714_688, 15.470, 13_547_520),
        ("vgg_e", {}, 20_024_384, 19.632, 14_852_096),
    ],
)
def test_counts(name, knobs, conv_parameters, multiply_adds, conv_outputs):
    model = on_meta(name, **knobs)
    convs = convolutions(model)
    assert sum(p.numel() for conv in convs.values() for p in conv.parameters()) == conv_parameters
    assert sum(p.numel() for p in model.parameters()) == conv_parameters + FC_PARAMETERS
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert round(counter.get_total_flops() / 2e9, 3) == multiply_adds
    shapes = output_shapes(model, 224)
    assert sum(math.prod(shapes[conv]) for conv in convs) == conv_outputs


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("vgg_a", ["3", "3", "33", "33", "33"]),
        ("vgg_a_lrn", ["3", "3", "33", "33", "33"]),
        ("vgg_b", ["33", "33", "33", "33", "33"]),
        ("vgg_c", ["33", "33", "331", "331", "331"]),
        ("vgg_d", ["33", "33", "333", "333", "333"]),
        ("vgg_e", ["33", "33", "3333", "3333", "3333"]),
    ],
)
def test_layer_table(name, kernels):
    model = on_meta(name)
    shapes = output_shapes(model, 224)
    expected = {}
    rows = zip(kernels, (64, 128, 256, 512, 512), (224, 112, 56, 28, 14), strict=True)
    for stage, (row, channels, side) in enumerate(rows, start=1):
        for index, kernel in enumerate(row, start=1):
            layer = f"conv{stage}_{index}"
            expected[layer] = int(kernel)
            assert shapes[layer] == shapes[f"relu{stage}_{index}"] == (channels, side, side)
        assert shapes[f"pool{stage}"] == (channels, side // 2, side // 2)
    assert {layer: conv.kernel_size[0] for layer, conv in convolutions(model).items()} == expected
    assert all(conv.stride == (1, 1) for conv in convolutions(model).values())
    assert shapes["flatten"] == (25_088,)
    assert shapes["fc6"] == shapes["fc7"] == (4096,)
    assert shapes["fc8"] == (1000,)


@pytest.mark.parametrize(
    ("name", "zoo"),
    [("vgg_a", "vgg11"), ("vgg_b", "vgg13"), ("vgg_d", "vgg16"), ("vgg_e", "vgg19")],
)
def test_same_function_as_torchvision(name, zoo):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, zoo)(num_classes=10)
        theirs.classifier[0] = nn.Linear(25_088, 64)
        theirs.classifier[3] = nn.Linear(64, 64)
        theirs.classifier[6] = nn.Linear(64, 10)
    theirs.to_empty(device="cpu").eval()
    ours = create(name, num_classes=10, fc_units=64).eval()
    for bias in (p for p in ours.parameters() if p.dim() == 1):
        nn.init.normal_(bias, std=0.1)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_lrn_has_alexnets_constants_and_lies_between_relu_and_pool_of_stage_1():
    with_lrn, without = small("vgg_a_lrn").eval(), small("vgg_a").eval()
    without.load_state_dict(with_lrn.state_dict())
    as_printed = small("vgg_a_lrn", lrn_alpha_convention="paper", lrn_k=2.0).eval()
    as_printed.load_state_dict(with_lrn.state_dict())
    x = 100 * torch.randn(2, 3, 32, 32)
    # Caffe divides alpha by the window of 5, as torch does, and in 2013 had no other k than 1. The formula of
    # the AlexNet paper does not divide, and has a k of 2.
    for net, alpha, k in ((with_lrn, 1e-4, 1.0), (as_printed, 5e-4, 2.0)):
        reference = nn.LocalResponseNorm(5, alpha=alpha, beta=0.75, k=k)
        hook = without.relu1_1.register_forward_hook(lambda _m, _a, out, norm=reference: norm(out))
        torch.testing.assert_close(net(x), without(x))
        hook.remove()
    assert not torch.allclose(as_printed(x), with_lrn(x), rtol=1e-3)


def test_dropout_follows_the_relu_of_fc6_and_fc7_only():
    children = list(small("vgg_d").named_children())
    at = [i for i, (_, layer) in enumerate(children) if isinstance(layer, nn.Dropout)]
    assert [children[i - 1][0] for i in at] == ["relu6", "relu7"]
    assert [children[i][1].p for i in at] == [0.5, 0.5]

    model, x = small("vgg_d"), torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    undropped = small("vgg_d", dropout=0.0)
    assert torch.equal(undropped(x), undropped.eval()(x))


def as_convolutions(model: VGG, x: Tensor) -> Tensor:
    """Sect. 3.2 word for word: the fully connected layers turned into convolutions."""
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            side = model.map_size if name == "fc6" else 1
            kernel = layer.weight.view(layer.out_features, -1, side, side)
            x = F.conv2d(x, kernel, layer.bias)
        elif name != "flatten":
            x = layer(x)
    return x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dense_is_the_fully_convolutional_net(memory_format):
    model = small("vgg_b", image_size=224).eval().to(memory_format=memory_format)
    x = torch.randn(2, 3, 256, 300).to(memory_format=memory_format)
    scores = model.dense(x)
    assert scores.shape == (2, 4, 2, 4)
    torch.testing.assert_close(scores, as_convolutions(model, x), rtol=1e-4, atol=1e-5)


def test_dense_on_one_window_is_forward_and_shares_its_weights():
    model, x = small("vgg_a", image_size=64).eval(), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.dense(x)[..., 0, 0], model(x))
    before = model.dense(x)
    with torch.no_grad():
        model.fc6.weight.mul_(2)
    assert not torch.allclose(model.dense(x), before)
    torch.testing.assert_close(model.dense(x)[..., 0, 0], model(x))


@pytest.mark.parametrize(
    ("side", "cells"), [(224, 1), (256, 2), (288, 3), (352, 5), (384, 6), (416, 7), (512, 10)]
)
def test_score_map_sides_of_the_papers_test_scales(side, cells):
    model = on_meta("vgg_d")
    assert model.dense(torch.empty(1, 3, side, side, device="meta")).shape[2:] == (cells, cells)


@pytest.mark.parametrize(("ceil_mode", "cells"), [(False, 9), (True, 10)])
def test_rounding_of_pools_shows_except_at_multiples_of_32(ceil_mode, cells):
    model = on_meta("vgg_d", ceil_mode=ceil_mode)
    assert model.dense(torch.empty(1, 3, 256, 500, device="meta")).shape[2:] == (2, cells)


def test_dense_refuses_an_image_smaller_than_its_window():
    with pytest.raises(ValueError, match=r"fc6 covers 7 x 7 .* leaves 6 x 7"):
        on_meta("vgg_d").dense(torch.empty(1, 3, 190, 224, device="meta"))


@pytest.mark.parametrize("name", NAMES)
def test_glorot_bounds(name):
    model = small(name)
    for layer in model.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            fan_out = len(layer.weight) * layer.weight[0, 0].numel()
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
            assert not layer.bias.any()


@pytest.mark.parametrize(("knobs", "std"), [({}, 0.01), ({"init_std": 0.1}, 0.1)])
def test_gaussian_init(knobs, std):
    model = small("vgg_d", init="gaussian", **knobs)
    for layer in model.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.15)
            assert not layer.bias.any()


def test_default_init_neither_explodes_nor_vanishes_through_d():
    torch.manual_seed(0)
    image = torch.rand(4, 3, 64, 64) * 255 - 128

    def spread(**knobs) -> float:
        model = create("vgg_d", num_classes=100, width=0.5, image_size=64, **knobs).eval()
        with torch.inference_mode():
            return model(image).std().item()

    assert 0.01 < spread() < 100
    assert spread(init="gaussian") < 1e-3
    assert spread(init="gaussian", init_std=0.1) > 1e4


def test_reset_parameters_draws_from_the_generator():
    model = small("vgg_a")
    draws = []
    for seed in (1, 1, 2):
        model.reset_parameters(torch.Generator().manual_seed(seed))
        draws.append(model.conv3_2.weight.detach().clone())
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("name", ["vgg_b", "vgg_c", "vgg_d", "vgg_e"])
def test_initialise_from_copies_by_name(name):
    trained, model = small("vgg_a"), small(name)
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    initialise_from(model, trained)
    changed = {
        key.split(".")[0]
        for key, value in model.state_dict().items()
        if not value.equal(before[key])
    }
    assert changed == {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    for layer in changed:
        for key in (f"{layer}.weight", f"{layer}.bias"):
            assert model.state_dict()[key].equal(trained.state_dict()[key])


def test_initialise_from_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="trained net A"):
        initialise_from(small("vgg_d"), small("vgg_b"))
    model = small("vgg_d")
    kept = model.conv1_1.weight.clone()
    with pytest.raises(ValueError, match=r"do not fit this net: fc8\.weight, fc8\.bias"):
        initialise_from(model, small("vgg_a", num_classes=5))
    assert model.conv1_1.weight.equal(kept)
    with pytest.raises(ValueError, match="conv3_2"):
        initialise_from(small("vgg_b", pairs_as_5x5=True), small("vgg_a"))


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("vgg_a", {"image_size": 31, "ceil_mode": False}, r"pool5 .*image_size=31.* 32"),
        ("vgg_a", {"init": "he"}, "'glorot' or 'gaussian'"),
        ("vgg_a", {"init_std": 0.1}, "init='gaussian'"),
        ("vgg_a", {"lrn_alpha_convention": "divided"}, "without lrn"),
        ("vgg_a", {"lrn_k": 2.0}, "without lrn"),
    ],
)
def test_knobs_that_do_not_go_together(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        on_meta(name, **knobs)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("image_size", [32, 64, 97, 224])
def test_image_size_redimensions_the_head(image_size, ceil_mode):
    model = small("vgg_c", image_size=image_size, ceil_mode=ceil_mode)
    assert model.input_size == image_size
    side = math.ceil(image_size / 32) if ceil_mode else image_size // 32
    assert model.fc6.in_features == 64 * side**2
    assert model(torch.randn(1, 3, image_size, image_size)).shape == (1, 4)


def test_width_keeps_the_shape_of_the_net():
    model = on_meta("vgg_d", width=0.25)
    assert [conv.out_channels for conv in convolutions(model).values()][::4] == [16, 64, 128, 128]
    assert model.fc7.out_features == 1024


@pytest.mark.parametrize("name", NAMES)
def test_learns_a_small_batch(name):
    torch.manual_seed(0)
    model = small(name, dropout=0.0)
    # One colour per class, on the paper's scale of pixels minus their mean: smaller values vanish in E.
    labels = torch.arange(8) % 4
    images = 60 * (torch.randn(4, 3, 1, 1)[labels] + 0.5 * torch.randn(8, 3, 32, 32))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_fidelity_covers_the_family_and_explains_every_deviation():
    assert sorted(FIDELITY) == NAMES
    assert all(row.note for rows in FIDELITY.values() for row in rows if row.status != "same")
