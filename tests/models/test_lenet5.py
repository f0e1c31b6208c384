import math

import pytest
import torch
from torch import nn

import models.lenet5
from models.lenet5 import C3_TABLE, Subsampling, digit_codes, scaled_tanh
from models.registry import create
from stages.tasks.classification.losses import map_criterion

SIZES = {"c1": (6, 28), "s2": (6, 14), "c3": (16, 10), "s4": (16, 5), "c5": (120, 1)}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def outputs(model: nn.Module, side: int = 32) -> dict[str, torch.Size]:
    found: dict[str, torch.Size] = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _m, _a, out, name=name: found.update({name: out.shape}))
    model(torch.zeros(2, 1, side, side))
    return found


def test_layer_table():
    model = create("lenet5", num_classes=10)
    shapes = outputs(model)
    for layer, (maps, side) in SIZES.items():
        assert shapes[layer] == (2, maps, side, side)
    assert shapes["f6"] == (2, 84)
    assert shapes["output"] == (2, 10)


def test_parameters_and_connections():
    model = create("lenet5", num_classes=10)
    counts = {name: parameters(layer) for name, layer in model.named_children()}
    assert counts == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
        "output": 0,
    }
    assert parameters(model) == 60_000
    assert model.output.weight.numel() == 840
    weights_per_map = {"c1": 26, "s2": 5, "c5": 16 * 25 + 1, "s4": 5}
    connections = {
        name: n * SIZES[name][0] * SIZES[name][1] ** 2 for name, n in weights_per_map.items()
    }
    connections |= {"c3": 1_516 * 100, "f6": 10_164, "output": 840}
    assert sum(connections.values()) == 340_908


def test_modern_form_counts_61706():
    assert parameters(create("lenet5_modern", num_classes=10)) == 61_706
    assert "output.weight" in dict(create("lenet5_modern").named_parameters())


def test_c3_table_follows_the_papers_rule():
    sizes = [len(maps) for maps in C3_TABLE]
    assert sizes == [3] * 6 + [4] * 9 + [6]
    assert len(set(map(frozenset, C3_TABLE))) == 16

    def contiguous(maps: tuple[int, ...]) -> bool:
        return any(set(maps) == {(start + i) % 6 for i in range(len(maps))} for start in range(6))

    assert [contiguous(maps) for maps in C3_TABLE] == [True] * 12 + [False] * 3 + [True]


def test_c3_reads_only_the_maps_of_its_table():
    layer = create("lenet5", num_classes=10).c3
    x = torch.randn(1, 6, 14, 14, requires_grad=True)
    for out, maps in enumerate(C3_TABLE):
        (gradient,) = torch.autograd.grad(layer(x)[0, out].sum(), x)
        reads = {i for i in range(6) if gradient[0, i].any()}
        assert reads == set(maps)


def test_c3_is_the_full_convolution_with_missing_kernels_at_zero():
    layer = create("lenet5", num_classes=10).c3
    nn.init.normal_(layer.bias)
    full = nn.Conv2d(6, 16, 5)
    kernels = iter(layer.weight)
    with torch.no_grad():
        full.weight.zero_()
        full.bias.copy_(layer.bias)
        for out, maps in enumerate(C3_TABLE):
            for i in maps:
                full.weight[out, i] = next(kernels)
    x = torch.randn(3, 6, 14, 14)
    torch.testing.assert_close(layer(x), full(x), rtol=1e-5, atol=1e-5)


def test_subsampling_is_mean_times_coefficient_plus_bias():
    layer = Subsampling(2)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1))
        layer.bias.copy_(torch.tensor([0.5, 0.0]).view(2, 1, 1))
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 2, 2, 2)
    assert layer(x).flatten().tolist() == [6.5, -3.0]


def test_activation():
    x = torch.tensor([-1.0, 0.0, 1.0, 100.0])
    expected = torch.tensor([-1.0, 0.0, 1.0, 1.7159])
    torch.testing.assert_close(scaled_tanh(x), expected, rtol=0, atol=1e-4)


def test_output_is_the_distance_to_fixed_codes():
    output = create("lenet5", num_classes=10).output
    codes = torch.tensor(digit_codes())
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(output(codes).argmax(1), torch.arange(10))
    assert torch.equal(output(codes).diagonal(), torch.zeros(10))
    x = torch.randn(4, 84)
    torch.testing.assert_close(
        output(x), -(x[:, None] - codes).square().sum(2), rtol=1e-5, atol=1e-4
    )
    assert not any(p.requires_grad for p in output.parameters())


def test_other_numbers_of_classes_have_random_codes_that_stay():
    first, second = (create("lenet5", num_classes=26).output.weight for _ in range(2))
    assert torch.equal(first, second)
    assert len(first.unique(dim=0)) == 26
    assert create("lenet5").output.weight.shape == (1000, 84)


def test_initialisation_is_uniform_within_2_4_over_fan_in():
    torch.manual_seed(0)
    model = create("lenet5", num_classes=10)
    for layer, fan_in in ((model.c1, 25), (model.c5, 400), (model.f6, 120)):
        bound = 2.4 / fan_in
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert not layer.bias.any()
    kernels = iter(model.c3.weight)
    for maps in C3_TABLE:
        bound = 2.4 / (25 * len(maps))
        for _ in maps:
            assert 0.5 * bound < next(kernels).abs().max() <= bound


def test_generator_decides_the_weights():
    model = create("lenet5", num_classes=10)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model.reset_parameters(torch.Generator().manual_seed(5))
        states.append({name: p.clone() for name, p in model.named_parameters()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("image_size", [16, 28, 33, 64])
def test_c5_takes_the_whole_of_s4(image_size):
    model = create("lenet5", num_classes=10, image_size=image_size)
    assert outputs(model, image_size)["c5"] == (2, 120, 1, 1)


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"image_size": 15}, "S4.*15.*16"),
        ({"c3": "sparse"}, "c3"),
        ({"pool": "sum"}, "pool"),
        ({"activation": "elu"}, "activation"),
        ({"output": "softmax"}, "output"),
    ],
)
def test_what_does_not_work_is_refused(knobs, reason):
    with pytest.raises(ValueError, match=reason):
        create("lenet5", **knobs)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("lenet5", {}),
        ("lenet5", {"c3": "full", "pool": "max", "activation": "relu", "output": "linear"}),
        ("lenet5", {"in_channels": 3, "pool": "mean"}),
        ("lenet5_modern", {}),
        ("lenet5_modern", {"pool": "max", "activation": "relu"}),
    ],
)
def test_a_few_steps_reduce_the_loss(name, knobs):
    torch.manual_seed(0)
    model = create(name, num_classes=10, **knobs)
    images = torch.randn(20, knobs.get("in_channels", 1), 32, 32)
    labels = torch.arange(20) % 10
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        logits = model(images)
        rbf = name == "lenet5" and knobs.get("output") != "linear"
        loss = (
            map_criterion(logits, labels, j=1.0) / len(labels)
            if rbf
            else nn.functional.cross_entropy(logits, labels)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["lenet5", "lenet5_modern"])
def test_fidelity_rows_say_why(name):
    for row in models.lenet5.FIDELITY[name]:
        assert row.source
        assert row.status == "same" or row.note


def test_a_border_of_background_is_the_padded_image():
    image = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bordered = create("lenet5", image_size=28, border=2)
    whole = create("lenet5")
    whole.load_state_dict(bordered.state_dict())
    padded = nn.functional.pad(image, (2,) * 4, value=models.lenet5.BACKGROUND)
    assert torch.equal(bordered(image), whole(padded))
    assert parameters(bordered) == 60_000


def test_the_fully_connected_net_that_the_paper_compares_with():
    model = create("lenet_fc", num_classes=10)
    assert parameters(model) == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert (
        parameters(create("lenet_fc", num_classes=10, hidden=(300,)))
        == 784 * 300 + 300 + 300 * 10 + 10
    )
