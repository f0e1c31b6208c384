import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.parts.layers import CeilConv2d, GroupedLinear, LocalResponseNorm, WithinMapNorm

ALEXNET = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
FORMATS = [torch.contiguous_format, torch.channels_last]


def by_definition(x: Tensor, window_sum: Tensor, scale: float, beta: float, k: float) -> Tensor:
    return x / (k + scale * window_sum) ** beta


def channel_sums(x: Tensor, size: int) -> Tensor:
    """The sum of AlexNet's §3.3, written literally."""
    n = x.shape[1]
    rows = [
        x[:, max(0, i - size // 2) : min(n - 1, i + size // 2) + 1].square().sum(1)
        for i in range(n)
    ]
    return torch.stack(rows, 1)


def with_gradient(norm: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    y.backward(grad)
    assert x.grad is not None
    return y.detach(), x.grad


def largest_relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(2, 96, 55, 55), (3, 256, 13, 13), (2, 4, 5, 7), (1, 1, 3, 3)])
@pytest.mark.parametrize(
    "constants", [ALEXNET, ALEXNET | {"size": 9, "alpha": 0.01, "beta": 0.6, "k": 1.0}]
)
def test_equals_torch_forward_and_backward(
    shape: tuple[int, ...], memory_format: torch.memory_format, constants: dict[str, float]
) -> None:
    torch.manual_seed(0)
    x = (30 * torch.randn(shape)).contiguous(memory_format=memory_format)
    grad = torch.randn(shape).contiguous(memory_format=memory_format)
    exact = with_gradient(nn.LocalResponseNorm(**constants), x.double(), grad.double())
    ours = with_gradient(LocalResponseNorm(**constants), x, grad)
    for got, expected in zip(ours, exact, strict=True):
        assert largest_relative_error(got.double(), expected) < 1e-6


def test_a_batch_larger_than_the_cache_is_one_batch() -> None:
    x, grad = 30 * torch.randn(2, 37, 16, 30, 31)
    exact = with_gradient(nn.LocalResponseNorm(**ALEXNET), x, grad)
    ours = with_gradient(LocalResponseNorm(**ALEXNET), x, grad)
    for got, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_keeps_the_memory_format(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    for norm in (LocalResponseNorm(groups=2), WithinMapNorm()):
        y = norm(x)
        assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("shape", [(2, 7), (2, 7, 5), (2, 7, 3, 2, 2)])
def test_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    x = 30 * torch.randn(shape)
    expected = by_definition(x, channel_sums(x, 5), 2e-5, 0.75, 2.0)
    torch.testing.assert_close(LocalResponseNorm(**ALEXNET)(x), expected)


def test_the_paper_does_not_divide_alpha() -> None:
    x = 100 * torch.randn(2, 12, 3, 3)
    literal = LocalResponseNorm(**ALEXNET, alpha_convention="paper")(x)
    torch.testing.assert_close(literal, by_definition(x, channel_sums(x, 5), 1e-4, 0.75, 2.0))
    torch.testing.assert_close(literal, F.local_response_norm(x, 5, 5e-4, 0.75, 2.0))
    assert largest_relative_error(LocalResponseNorm(**ALEXNET)(x), literal) > 0.1


@pytest.mark.parametrize("memory_format", FORMATS)
def test_no_window_crosses_from_group_to_group(memory_format: torch.memory_format) -> None:
    x = (50 * torch.randn(2, 12, 4, 5)).contiguous(memory_format=memory_format)
    halves = [LocalResponseNorm(**ALEXNET)(half) for half in x.chunk(2, dim=1)]
    grouped = LocalResponseNorm(**ALEXNET, groups=2)(x)
    torch.testing.assert_close(grouped, torch.cat(halves, dim=1))
    assert largest_relative_error(LocalResponseNorm(**ALEXNET)(x), grouped) > 1e-3


@pytest.mark.parametrize("memory_format", FORMATS)
def test_within_map_norm(memory_format: torch.memory_format) -> None:
    x = (100 * torch.randn(2, 3, 9, 8)).contiguous(memory_format=memory_format)
    sums = F.conv2d(x.square(), torch.ones(3, 1, 5, 5), padding=2, groups=3)
    torch.testing.assert_close(WithinMapNorm()(x), by_definition(x, sums, 1e-3 / 25, 0.75, 1.0))


@pytest.mark.parametrize(
    "norm",
    [
        LocalResponseNorm(alpha=0.5, k=1.5),
        LocalResponseNorm(size=3, alpha=0.5, beta=0.4, groups=2),
        WithinMapNorm(size=3, alpha=0.5),
    ],
)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_gradients_in_float64(norm: nn.Module, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 6, 4, 3, dtype=torch.float64).contiguous(memory_format=memory_format)
    assert torch.autograd.gradcheck(norm, x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    x, grad = (30 * torch.randn(2, 2, 32, 6, 6)).to(dtype)
    exact = with_gradient(LocalResponseNorm(**ALEXNET), x.double(), grad.double())
    ours = with_gradient(LocalResponseNorm(**ALEXNET), x, grad)
    for got, expected in zip(ours, exact, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(1, 5, 2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(LocalResponseNorm()(x).sum(), x, create_graph=True)


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_a_window_needs_a_middle(size: int) -> None:
    for norm in (LocalResponseNorm, WithinMapNorm):
        with pytest.raises(ValueError, match="window"):
            norm(size)


def test_compiled_is_the_same_function() -> None:
    x, grad = 30 * torch.randn(2, 2, 16, 5, 5)
    for norm in (LocalResponseNorm(groups=2), WithinMapNorm()):
        compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
        for got, expected in zip(
            with_gradient(compiled, x, grad), with_gradient(norm, x, grad), strict=True
        ):
            torch.testing.assert_close(got, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", FORMATS)
def test_same_on_a_gpu(memory_format: torch.memory_format) -> None:
    x = (30 * torch.randn(4, 32, 9, 9)).contiguous(memory_format=memory_format)
    grad = torch.randn_like(x)
    for norm in (LocalResponseNorm(groups=2), WithinMapNorm()):
        on_gpu = with_gradient(norm, x.cuda(), grad.cuda())
        for got, expected in zip(on_gpu, with_gradient(norm, x, grad), strict=True):
            torch.testing.assert_close(got.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "out"), [(224, 55), (227, 55), (228, 56), (64, 15), (11, 1)])
def test_ceil_convolution_reads_zeros_past_the_right_and_bottom_edge(side: int, out: int) -> None:
    conv = CeilConv2d(3, 2, 11, stride=4)
    x = torch.randn(1, 3, side, side)
    y = conv(x)
    assert y.shape == (1, 2, out, out)
    enlarged = F.pad(x, (0, 4, 0, 4))
    expected = F.conv2d(enlarged, conv.weight, conv.bias, stride=4)[..., :out, :out]
    torch.testing.assert_close(y, expected)


def test_grouped_linear_keeps_its_columns_apart() -> None:
    layer = GroupedLinear(6, 4, groups=2)
    nn.init.normal_(layer.weight)
    x = torch.randn(3, 6)
    expected = torch.cat(
        [half @ layer.weight[i].T for i, half in enumerate(x.chunk(2, dim=1))], dim=1
    )
    torch.testing.assert_close(layer(x), expected)
