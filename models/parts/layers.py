"""Layers of the early networks that PyTorch lacks or computes slowly.

`LocalResponseNorm` and `WithinMapNorm` are one computation: with W the sum over a window (of
neighbouring channels, or of neighbouring pixels of one map) and d = k + a W(x²),

    forward    y  = x d^-β
    backward   dx = g d^-β - 2 a β x W(g x d^(-β-1))

`_ResponseNorm` writes that backward by hand, keeps nothing but its input, and takes the batch in
pieces that stay in the CPU's cache, because the plain form spends its time moving memory.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AlphaConvention = Literal["divided", "paper"]

_PIECE = 2**18  # elements processed at once, to fit a CPU's cache: 1 MiB of float32


class _Windows:
    """Sums over windows of ``size`` along ``dims``, cut off at the edges, for pieces of a batch.

    The values lie in a buffer that is padded along ``dims``. The sums are then ``size - 1``
    additions of the flat buffer to shifted copies of itself: contiguous in every memory format, with
    no special case at the edges.
    """

    def __init__(self, x: Tensor, dims: tuple[int, ...], size: int, padding: float) -> None:
        fit = _PIECE * len(x) // x.numel() if x.device.type == "cpu" else len(x)
        self.samples = min(max(1, fit), len(x))
        self.dims, self.size = dims, size
        shape = [self.samples, *x.shape[1:]]
        for dim in dims:
            shape[dim] += size - 1
        dtype = torch.promote_types(x.dtype, torch.float32)
        self.buffer = torch.full(shape, padding, dtype=dtype, device=x.device)

    def values(self, piece: Tensor) -> Tensor:
        """The part of the buffer that holds the values of ``piece``."""
        view = self.buffer[: len(piece)]
        for dim in self.dims:
            view = view.narrow(dim, self.size // 2, piece.shape[dim])
        return view

    def sums(self, piece: Tensor) -> Tensor:
        """One flat sum for each window start in the buffer; `at` selects those of ``piece``."""
        total = self.buffer[: len(piece)].flatten()
        for dim in self.dims:
            stride = self.buffer.stride(dim)
            n = len(total) - (self.size - 1) * stride
            first, second, *others = (total[i * stride :][:n] for i in range(self.size))
            total = first + second
            for other in others:
                total += other
        return total

    def at(self, piece: Tensor, flat: Tensor) -> Tensor:
        return flat.as_strided(piece.shape, self.buffer.stride())


class _Denominators(_Windows):
    """k + scale * sum of squares, over the same windows."""

    def __init__(self, x: Tensor, dims: tuple[int, ...], size: int, scale: float, k: float) -> None:
        # k is spread over the elements of a window, so that their sum is the whole denominator.
        share = k / size ** len(dims)
        super().__init__(x, dims, size, padding=share)
        self.share, self.scale = self.buffer.new_full((), share), scale

    def of(self, piece: Tensor) -> Tensor:
        torch.addcmul(self.share, piece, piece, value=self.scale, out=self.values(piece))
        return self.sums(piece)


def _inverse_power(d: Tensor, beta: float) -> Tensor:
    if beta == 0.75:
        root = d.rsqrt()
        return root * root.sqrt()
    return d.pow(-beta)


class _ResponseNorm(torch.autograd.Function):
    """y = x / (k + scale * sum of x² over a window along ``dims``)^beta, for a contiguous x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dims: tuple[int, ...],
        size: int,
        scale: float,
        beta: float,
        k: float,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = dims, size, scale, beta, k
        y = torch.empty_like(x)
        denominators = _Denominators(x, dims, size, scale, k)
        n = denominators.samples
        for x_, y_ in zip(x.split(n), y.split(n), strict=True):
            exact = x_.to(denominators.buffer.dtype)
            power = _inverse_power(denominators.of(exact), beta)
            torch.mul(exact, denominators.at(x_, power), out=y_)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # once_differentiable would not notice: it looks at whether grad, not x, has a gradient.
        if torch.is_grad_enabled():
            raise RuntimeError("response norms have no second derivative: drop create_graph=True")
        (x,) = ctx.saved_tensors
        dims, size, scale, beta, k = ctx.constants
        dx = torch.empty_like(x)
        denominators = _Denominators(x, dims, size, scale, k)
        cross = _Windows(x, dims, size, padding=0.0)
        n, dtype = denominators.samples, denominators.buffer.dtype
        for x_, grad_, dx_ in zip(x.split(n), grad.contiguous().split(n), dx.split(n), strict=True):
            exact, exact_grad = x_.to(dtype), grad_.to(dtype)
            d = denominators.of(exact)
            power = _inverse_power(d, beta)
            direct = exact_grad * denominators.at(x_, power)
            terms = torch.mul(exact, exact_grad, out=cross.values(x_))
            terms.mul_(denominators.at(x_, power.div_(d)))
            window = cross.at(x_, cross.sums(x_))
            dx_.copy_(direct.addcmul_(exact, window, value=-2 * scale * beta))
        return dx, None, None, None, None, None


def _response_norm(
    x: Tensor, dims: tuple[int, ...], size: int, scale: float, beta: float, k: float
) -> Tensor:
    if not torch.compiler.is_compiling():
        return _ResponseNorm.apply(x, dims, size, scale, beta, k)
    # Given the bare formula, a compiler does by itself what _ResponseNorm does by hand.
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    total = exact.square()
    for dim in dims:
        padded = F.pad(total, [0, 0] * (x.dim() - 1 - dim) + [size // 2] * 2)
        first, *others = (padded.narrow(dim, i, x.shape[dim]) for i in range(size))
        total = sum(others, first)
    return (exact * _inverse_power(k + scale * total, beta)).to(x.dtype)


class LocalResponseNorm(nn.Module):
    """Normalisation across neighbouring channels at one pixel (AlexNet §3.3).

    b_i = a_i / (k + α Σ a_j²)^β, the sum over the ``size`` channels around i, cut off at the first
    and last channel of the group. The same function and gradients as `torch.nn.LocalResponseNorm`,
    several times faster and in a fraction of the memory; half-precision input is summed in float32.
    Accepts (N, C, *) in any memory format and keeps the format. Cannot be differentiated twice.

    Args:
        size: channels in a window; odd, 3 or more.
        alpha, beta, k: the constants, by default AlexNet's.
        groups: the number of groups of channels that are normalised separately (AlexNet's authors'
            code normalises inside each GPU's half).
        alpha_convention: ``"divided"`` uses α / size, as the authors' code, PyTorch and Caffe do;
            ``"paper"`` uses α as in the formula.

    Raises:
        ValueError: ``size`` is even or too small.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
        groups: int = 1,
        alpha_convention: AlphaConvention = "divided",
    ) -> None:
        super().__init__()
        _check_window(size)
        self.size, self.alpha, self.beta, self.k, self.groups = size, alpha, beta, k, groups
        self.alpha_convention = alpha_convention
        self.scale = {"divided": alpha / size, "paper": alpha}[alpha_convention]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *) to the same shape, C divisible by ``groups``."""
        constants = self.size, self.scale, self.beta, self.k
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            grouped = x.permute(0, 2, 3, 1).unflatten(3, (self.groups, -1))
            return _response_norm(grouped, (4,), *constants).flatten(3).permute(0, 3, 1, 2)
        grouped = x.contiguous().unflatten(1, (self.groups, -1))
        return _response_norm(grouped, (2,), *constants).flatten(1, 2)

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return (
            f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, "
            f"groups={self.groups}, alpha_convention={self.alpha_convention!r}"
        )


class WithinMapNorm(nn.Module):
    """Normalisation over neighbouring pixels of one map: the layer ``rnorm`` of cuda-convnet.

    b = a / (k + (α / size²) Σ a²)^β, the sum over the size x size pixels around, cut off at the
    borders. AlexNet as run has one in layer 2 that the paper does not mention. Accepts
    (N, C, H, W). Cannot be differentiated twice.

    Raises:
        ValueError: ``size`` is even or too small.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-3, beta: float = 0.75, k: float = 1.0
    ) -> None:
        super().__init__()
        _check_window(size)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        constants = self.size, self.alpha / self.size**2, self.beta, self.k
        if x.is_contiguous(memory_format=torch.channels_last):
            y = _response_norm(x.permute(0, 2, 3, 1), (1, 2), *constants)
            return y.permute(0, 3, 1, 2)
        return _response_norm(x.contiguous(), (2, 3), *constants)

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


def _check_window(size: int) -> None:
    if size < 3 or size % 2 == 0:
        raise ValueError(
            f"a window of {size} has no centre with neighbours on both sides: use 3, 5, 7, ..."
        )


class CeilConv2d(nn.Conv2d):
    """An unpadded convolution whose output size is rounded up, as in cuda-convnet.

    The last row and column of windows hang over the right and bottom edge and read zeros there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'), where H' is 1 + ceil((H - kernel) / stride), and so W'."""
        bottom, right = (
            (kernel - side) % stride
            for side, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return super().forward(F.pad(x, (0, right, 0, bottom)))


class OriginalDropout(nn.Module):
    """Dropout as Krizhevsky ran it: zeros in training, a smaller scale at test time (AlexNet §4.2).

    In training a unit is set to zero with probability ``p`` and otherwise left as it is; in evaluation all
    units are multiplied by 1 - p (src/layer.cu, HiddenSexLayer). Inverted dropout, of Caffe and PyTorch,
    divides by 1 - p in training instead. The two have the same expectation and are not the same training:
    they agree if the weights above start at 1 - p times the scale here, and learn with (1 - p)² times the
    rate and with weight decay divided by as much.

    Args:
        p: probability of dropping a unit, less than 1.

    Raises:
        ValueError: ``p`` is not a probability that leaves anything.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of dropping a unit must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same; the mask is the one that `torch.nn.Dropout` would draw."""
        return F.dropout(x, self.p, self.training) * (1 - self.p)

    def extra_repr(self) -> str:
        """The argument, for printing."""
        return f"p={self.p}"


def make_dropout(p: float, *, inverted: bool) -> nn.Module:
    """Dropout as Krizhevsky ran it, or the inverted form of Caffe and PyTorch."""
    return nn.Dropout(p) if inverted else OriginalDropout(p)


class GroupedLinear(nn.Module):
    """A fully connected layer in ``groups`` columns that do not see each other."""

    def __init__(self, in_features: int, out_features: int, groups: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.groups = in_features, out_features, groups
        self.weight = nn.Parameter(
            torch.empty(groups, out_features // groups, in_features // groups)
        )
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) to (N, out_features)."""
        columns = x.unflatten(1, (self.groups, -1))
        return torch.einsum("ngi,goi->ngo", columns, self.weight).flatten(1) + self.bias

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"{self.in_features}, {self.out_features}, groups={self.groups}"


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, as a multiple of 8 (which all group counts here divide)."""
    return max(8, 8 * round(channels * width / 8))


class Window(NamedTuple):
    """The geometry of a convolution or pool, in pixels of its input; ``ceil`` rounds sizes up."""

    name: str
    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False


def map_sides(image_size: int, chain: Sequence[Window]) -> dict[str, int]:
    """The side of the square maps after each window of a chain, by name.

    Raises:
        ValueError: a window is larger than the maps it reads; the message gives the smallest
            ``image_size`` that works.
    """
    sides, side = {}, image_size
    for window in chain:
        room = side + 2 * window.padding - window.kernel
        if room < 0:
            raise ValueError(
                f"{window.name} ({window.kernel}x{window.kernel}) cannot run on the {side}x{side} "
                f"maps of an image of {image_size} px; the smallest image_size that works is "
                f"{_smallest_image(chain)}"
            )
        hanging_over = window.stride - 1 if window.ceil else 0
        side = sides[window.name] = (room + hanging_over) // window.stride + 1
    return sides


def _smallest_image(chain: Sequence[Window]) -> int:
    side = 1
    for window in reversed(chain):
        hanging_over = window.stride - 1 if window.ceil else 0
        side = max(0, (side - 1) * window.stride - hanging_over) + window.kernel
        side -= 2 * window.padding
    return side
