import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.googlenet import FIDELITY, GoogLeNet
from models.registry import create, create_on_meta

# Table 1 with the counts that its filters give: module, side, channels, weights, multiply-adds (M).
ROWS = [
    ("3a", 28, 256, 163_328, 128.0),
    ("3b", 28, 480, 388_096, 304.3),
    ("4a", 14, 512, 375_552, 73.6),
    ("4b", 14, 512, 448_512, 87.9),
    ("4c", 14, 512, 509_440, 99.9),
    ("4d", 14, 528, 604_672, 118.5),
    ("4e", 14, 832, 867_328, 170.0),
    ("5a", 7, 832, 1_042_432, 51.1),
    ("5b", 7, 1024, 1_442_816, 70.7),
]


def on_meta(name: str = "googlenet", **knobs) -> GoogLeNet:
    return create_on_meta(name, **knobs).eval()


def small(name: str = "googlenet", **knobs) -> GoogLeNet:
    return create(name, **{"num_classes": 4, "width": 0.25, "image_size": 96, **knobs})


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def weights(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith("weight"))


def output_shapes(model: GoogLeNet, side: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_modules():
        layer.register_forward_hook(
            lambda _module, _args, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    model(torch.empty(1, 3, side, side, device="meta"))
    return shapes


def outputs_of(model: GoogLeNet, layer: str, x: Tensor) -> Tensor:
    found: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _args, out: found.append(out)
    )
    model(x)
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("name", "inference", "training"),
    [("googlenet", 6_998_552, 13_378_280), ("googlenet_bn", 7_005_832, 13_385_816)],
)
def test_counts(name, inference, training):
    assert parameters(on_meta(name, aux_heads="none")) == inference
    model = on_meta(name)
    assert parameters(model) == training
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert round(counter.get_total_flops() / 2e9, 3) == 1.583


def test_counts_of_the_parts():
    model = on_meta()
    assert weights(on_meta(aux_heads="none")) == 6_990_272
    assert parameters(model.aux1) == 3_188_840
    assert parameters(model.aux2) == 3_190_888
    assert weights(model.conv1) == 9_408  # not the 2.7K of Table 1, which would be a separable 7x7
    assert weights(model.conv2_reduce) + weights(model.conv2) == 114_688


@pytest.mark.parametrize(("row", "side", "channels", "n_weights", "multiply_adds"), ROWS)
def test_table_1(row, side, channels, n_weights, multiply_adds):
    module = on_meta().get_submodule(f"inception_{row}")
    assert weights(module) == n_weights
    in_channels = module.get_submodule("conv1x1.conv").in_channels
    with FlopCounterMode(display=False) as counter:
        out = module(torch.empty(1, in_channels, side, side, device="meta"))
    assert out.shape == (1, channels, side, side)
    assert round(counter.get_total_flops() / 2e6, 1) == multiply_adds
    kernels = {
        name: module.get_submodule(f"{name}.conv").kernel_size
        for name in ("conv3x3_reduce", "conv3x3", "conv5x5_reduce", "conv5x5", "pool_proj")
    }
    assert list(kernels.values()) == [(1, 1), (3, 3), (1, 1), (5, 5), (1, 1)]


def test_sizes_need_pools_that_round_up():
    shapes = output_shapes(on_meta(), 224)
    assert shapes["conv1"] == (64, 112, 112)
    assert shapes["pool1"] == (64, 56, 56)
    assert shapes["conv2"] == (192, 56, 56)
    assert shapes["pool2"] == (192, 28, 28)
    assert shapes["pool3"] == (480, 14, 14)
    assert shapes["pool4"] == (832, 7, 7)
    assert shapes["head"] == (1024,)
    for row, side, channels, _, _ in ROWS:
        assert shapes[f"inception_{row}"] == (channels, side, side)


def test_stem_pools_before_it_normalises_and_normalises_before_it_pools():
    model = small().eval()
    x = 100 * torch.randn(2, 3, 96, 96)

    def lrn(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    stem = lrn(F.max_pool2d(model.conv1(x), 3, 2, ceil_mode=True))
    stem = lrn(model.conv2(model.conv2_reduce(stem)))
    stem = F.max_pool2d(stem, 3, 2, ceil_mode=True)
    torch.testing.assert_close(outputs_of(model, "pool2", x), stem, rtol=1e-4, atol=1e-4)

    without = small(lrn=False).eval()
    without.load_state_dict(model.state_dict())
    assert not torch.allclose(outputs_of(without, "pool2", x), stem, rtol=0.01)


def test_branches_are_concatenated_in_the_papers_order():
    module = small().inception_3a
    x = torch.randn(1, 48, 12, 12)
    branches = [
        F.relu(module.conv1x1.conv(x)),
        F.relu(module.conv3x3.conv(F.relu(module.conv3x3_reduce.conv(x)))),
        F.relu(module.conv5x5.conv(F.relu(module.conv5x5_reduce.conv(x)))),
        F.relu(module.pool_proj.conv(F.max_pool2d(x, 3, 1, padding=1))),
    ]
    torch.testing.assert_close(module(x), torch.cat(branches, 1))


def test_auxiliary_head_pools_5x5_with_stride_3():
    head = on_meta(aux_dropout=0.0, num_classes=10).aux1.to_empty(device="cpu")
    for p in head.parameters():
        nn.init.normal_(p, std=0.05)
    maps = torch.randn(2, 512, 14, 14)
    x = F.relu(head.conv.conv(F.avg_pool2d(maps, 5, 3))).flatten(1)
    assert x.shape == (2, 2048)
    expected = head.classifier(F.relu(head.fc(x)))
    torch.testing.assert_close(head(maps), expected)
    head.pool = nn.AdaptiveAvgPool2d(4)
    assert not torch.allclose(head(maps), expected, rtol=0.01)


def test_training_returns_main_then_the_lower_head_then_the_upper():
    model = small()
    main, aux1, aux2 = model(torch.randn(2, 3, 96, 96))
    assert main.shape == aux1.shape == aux2.shape == (2, 4)

    def reached(output: Tensor) -> list[bool]:
        layers = [model.inception_4a, model.inception_4b, model.inception_4d, model.inception_4e]
        parameters = [layer.conv1x1.conv.weight for layer in layers]
        grads = torch.autograd.grad(output.sum(), parameters, retain_graph=True, allow_unused=True)
        return [grad is not None for grad in grads]

    assert reached(aux1) == [True, False, False, False]
    assert reached(aux2) == [True, True, True, False]
    assert reached(main) == [True, True, True, True]


def test_evaluation_returns_the_main_logits_alone():
    model, x = small().eval(), torch.randn(2, 3, 96, 96)
    assert model(x).shape == (2, 4)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(("aux_heads", "channels"), [("4a", 128), ("4d", 136)])
def test_one_auxiliary_head(aux_heads, channels):
    model = small(aux_heads=aux_heads)
    (head,) = [head for head in (model.aux1, model.aux2) if head is not None]
    assert head.conv.conv.in_channels == channels
    main, aux = model(torch.randn(1, 3, 96, 96))
    assert main.shape == aux.shape == (1, 4)


def test_without_auxiliary_heads_training_returns_the_main_logits():
    assert small(aux_heads="none")(torch.randn(1, 3, 96, 96)).shape == (1, 4)


def test_a_removed_module_is_bypassed():
    whole, less = on_meta(), on_meta(remove=("4b", "5a"))
    x = torch.empty(1, 480, 14, 14, device="meta")
    at_4a = less.inception_4a(x)
    assert less.inception_4b(at_4a) is at_4a
    assert less.inception_5b.conv1x1.conv.in_channels == 832
    assert less.train()(torch.empty(2, 3, 224, 224, device="meta"))[0].shape == (2, 1000)
    assert parameters(less.inception_4c) == parameters(
        whole.inception_4c
    )  # 512 channels either way
    with pytest.raises(ValueError, match="cannot remove"):
        on_meta(remove=("4f",))


def test_dropout_rates():
    model = on_meta()
    assert [model.dropout.p, model.aux1.dropout.p, model.aux2.dropout.p] == [0.4, 0.7, 0.7]
    model = on_meta(dropout=0.2, aux_dropout=0.5)
    assert [model.dropout.p, model.aux1.dropout.p, model.aux2.dropout.p] == [0.2, 0.5, 0.5]


def test_fully_connected_head_has_the_map_as_its_input():
    model = on_meta(head="fc", image_size=128)
    assert model.head.fc.in_features == 1024 * 4 * 4
    assert model.classifier.in_features == 1024
    assert small(head="fc").eval()(torch.randn(1, 3, 96, 96)).shape == (1, 4)


def torchvision_twin(model: GoogLeNet, images: Tensor) -> nn.Module:
    """torchvision's net with our weights.

    Its 3x3 kernels become ours by a border of zeros, and we take over its 2x2 pool.
    """
    theirs = torchvision.models.googlenet(
        num_classes=10, aux_logits=True, init_weights=False, dropout=0.0, dropout_aux=0.0
    )
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    theirs.train()
    for _ in range(2):
        theirs(images)  # gives the running statistics values that matter

    def blocks(net: nn.Module) -> list[nn.Module]:
        return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]

    for ours, twin in zip(blocks(model), blocks(theirs), strict=True):
        state = twin.state_dict()
        if ours.weight.shape != twin.weight.shape:
            state["weight"] = F.pad(state["weight"], (1, 1, 1, 1))
        ours.load_state_dict(state)
    linears = [
        (model.classifier, theirs.fc),
        (model.aux1.fc, theirs.aux1.fc1),
        (model.aux1.classifier, theirs.aux1.fc2),
        (model.aux2.fc, theirs.aux2.fc1),
        (model.aux2.classifier, theirs.aux2.fc2),
    ]
    for ours, twin in linears:
        ours.load_state_dict(twin.state_dict())
    model.pool4 = nn.MaxPool2d(2, ceil_mode=True)
    return theirs


def test_batch_norm_variant_is_torchvisions_net_except_for_its_known_differences():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    ours = create("googlenet_bn", num_classes=10, aux_pool="adaptive", dropout=0.0, aux_dropout=0.0)
    theirs = torchvision_twin(ours, x)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)
        main, aux1, aux2 = ours.train()(x)
        twin = theirs.train()(x)
    torch.testing.assert_close(main, twin.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aux1, twin.aux_logits1, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aux2, twin.aux_logits2, rtol=1e-4, atol=1e-5)


def test_paper_net_without_lrn_is_the_batch_norm_variant_with_idle_norms():
    torch.manual_seed(0)
    plain, normed = small(lrn=False).eval(), small("googlenet_bn").eval()
    for module in normed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps)
    state = plain.state_dict()
    biases = {k: k.replace("conv.bias", "norm.bias") for k in state if k.endswith("conv.bias")}
    normed.load_state_dict(
        {biases.get(key, key): value for key, value in state.items()}, strict=False
    )
    x = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(plain(x), normed(x), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in create("googlenet", width=0.1).modules())


@pytest.mark.parametrize(("image_size", "inputs"), [(79, 128), (96, 128), (128, 512), (224, 2048)])
def test_auxiliary_heads_redimension(image_size, inputs):
    model = create("googlenet", num_classes=4, image_size=image_size, width=0.125)
    assert model.input_size == image_size
    assert model.aux1.fc.in_features == inputs // 8
    outputs = model(torch.randn(1, 3, image_size, image_size))
    assert [out.shape for out in outputs] == [(1, 4)] * 3


@pytest.mark.parametrize("knobs", [{"aux_pool": "adaptive"}, {"aux_heads": "none"}])
@pytest.mark.parametrize("image_size", [31, 64, 78])
def test_small_images_have_a_documented_way(image_size, knobs):
    model = small(image_size=image_size, **knobs).eval()
    assert model(torch.randn(1, 3, image_size, image_size)).shape == (1, 4)
    outputs = model.train()(torch.randn(2, 3, image_size, image_size))
    assert len(outputs) == (3 if "aux_pool" in knobs else 2)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"image_size": 78}, r"5x5 pool .* 4x4 maps of 4a at image_size=78.* 79.*adaptive"),
        ({"image_size": 30, "aux_heads": "none"}, r"pool4 .*image_size=30.* 31"),
        ({"aux_heads": "none", "aux_pool": "adaptive"}, "aux_heads='none' has none"),
        ({"aux_heads": "none", "aux_dropout": 0.5}, "aux_heads='none' has none"),
        ({"aux_heads": "4b"}, "aux_heads must be one of both, 4a, 4d, none, not '4b'"),
        ({"aux_pool": "4x4"}, "aux_pool must be one of"),
        ({"head": "max"}, "head must be one of"),
    ],
)
def test_knobs_that_do_not_go_together(knobs, message):
    with pytest.raises(ValueError, match=message):
        on_meta(**knobs)


@pytest.mark.parametrize("shape", [(97, 131), (224, 96), (256, 256)])
def test_evaluation_takes_other_sizes(shape):
    model = small().eval()
    x = torch.randn(2, 3, *shape)
    assert model(x).shape == (2, 4)
    channels_last = x.to(memory_format=torch.channels_last)
    expected = model(x)
    actual = model.to(memory_format=torch.channels_last)(channels_last)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_init_is_caffes_xavier_with_bvlcs_biases():
    model = create("googlenet")
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = math.sqrt(3 / layer.weight[0].numel())
            assert 0.95 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            bias = 0.0 if name in {"classifier", "aux1.classifier", "aux2.classifier"} else 0.2
            assert layer.bias.eq(bias).all()


def test_reset_parameters_draws_from_the_generator():
    model = small("googlenet_bn")
    draws = []
    for seed in (1, 1, 2):
        model.reset_parameters(torch.Generator().manual_seed(seed))
        draws.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("name", "knobs"), [("googlenet", {}), ("googlenet", {"head": "fc"}), ("googlenet_bn", {})]
)
def test_learns_a_small_batch(name, knobs):
    torch.manual_seed(0)
    model = small(name, image_size=64, aux_pool="adaptive", dropout=0.0, aux_dropout=0.0, **knobs)
    labels = torch.arange(8) % 4
    images = 60 * (torch.randn(4, 3, 1, 1)[labels] + 0.5 * torch.randn(8, 3, 64, 64))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(30):
        main, *aux = (F.cross_entropy(logits, labels) for logits in model(images))
        optimiser.zero_grad()
        (main + 0.3 * sum(aux)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(main.item())
    assert losses[-1] < 0.6 * losses[0]


def test_fidelity_covers_both_nets_and_explains_every_deviation():
    assert sorted(FIDELITY) == ["googlenet", "googlenet_bn"]
    assert all(row.note for rows in FIDELITY.values() for row in rows if row.status != "same")
