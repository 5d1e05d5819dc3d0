"""``Linear``: a weight matrix as it is stored, and its product with activations.

Formats, each by the product that torch itself brings for it:

- ``dense``: the weight in the activations' dtype.
- ``int8``: 8-bit integers with one scale a row (``_weight_int8pack_mm``). Weight-only: activations stay as they are.
- ``int4``: 4-bit integers with one scale a group of a row (``_weight_int4pack_mm``). Weight-only as well.
- ``fp8``: weights and activations in e4m3, each with one scale for all (``_scaled_mm``). Torch has no product of
  16-bit activations with 8-bit floats.

The integer products widen each weight anew for every few rows of activations, and so are made for few. Many rows get
the weight widened once, into a buffer that all layers of a model share, and the dense product.

Letters of the shapes: N rows of a weight, K columns, G groups of a row; M rows of activations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import Unsupported

if TYPE_CHECKING:
    import torch

# From how many rows of activations on a widened weight is faster. CPU: where the two cross in
# tests/benchmarks/test_weights_benchmark.py. CUDA, int4: torchao's prototype/hqq/README.md has the integer product
# ahead at 128 rows and behind at 256 (RTX A6000); its int8 product has no tiles of activations at all and reads the
# weight once for each row (aten/src/ATen/native/cuda/int8mm.cu).
_MANY_ROWS = {("int8", "cpu"): 16, ("int4", "cpu"): 96, ("int8", "cuda"): 16, ("int4", "cuda"): 256}

_GROUPS = (128, 64, 32)  # the sizes that torch's int4 product takes on every device; the largest that divides K
_CHUNK_ROWS = 4096  # of a weight that are quantised at a time, in fp32


class Linear:
    """``x_…K -> x_…K @ weight_NK.T``, the weight dense.

    A CPU gets the weight in oneDNN's own blocked layout, as ``torch.compile`` does when it freezes a model: read row
    by row, a weight streams at little more than half the speed for a single token. Bias and GELU are then done while
    results are still in registers. Where oneDNN has no such layout for the dtype, the weight stays as it is.
    """

    seen_roundoff = 0.0  # unit roundoff of the dtype that activations are rounded to, where it is one of its own

    def __init__(self, weight_NK: torch.Tensor) -> None:
        import torch

        self._weight = weight_NK
        self._apply: Any = functools.partial(_by_rows, weight_NK)
        if weight_NK.device.type == "cpu" and torch.backends.mkldnn.is_available():
            try:
                packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK)
            except (RuntimeError, AttributeError):  # not for this dtype; not in this torch
                return
            linear = torch.ops.mkldnn._linear_pointwise.default
            self._weight = packed
            # oneDNN's GELU is by erf where it is not told to take tanh.
            self._apply = lambda x, bias_N, gelu: linear(x, packed, bias_N, "gelu" if gelu else "none", [], "none")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._apply(x, None, False)
        return y

    def biased(self, x: torch.Tensor, bias_N: torch.Tensor, gelu: bool) -> torch.Tensor:
        """The product with a bias added, through GELU if asked for."""
        y: torch.Tensor = self._apply(x, bias_N, gelu)
        return y

    def dense(self) -> torch.Tensor:
        """The weight that is multiplied by, row by row, in a dtype that holds it exactly."""
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """The activations that are multiplied: ``x``, or ``x`` rounded to the format's own dtype."""
        return x


def _by_rows(weight_NK: torch.Tensor, x: torch.Tensor, bias_N: torch.Tensor | None, gelu: bool) -> torch.Tensor:
    from torch.nn import functional

    y = functional.linear(x, weight_NK, bias_N)
    return functional.gelu(y) if gelu else y


class Unfused(Linear):
    """A product that knows of no bias."""

    def biased(self, x: torch.Tensor, bias_N: torch.Tensor, gelu: bool) -> torch.Tensor:
        import torch

        y = self(x).add_(bias_N)
        return torch.nn.functional.gelu(y) if gelu else y


class Int8Linear(Unfused):
    """Rows of integers from -127 to 127, each times the row's scale."""

    def __init__(self, weight_NK: torch.Tensor, buffer: WideBuffer) -> None:
        import torch

        self._torch, self._buffer = torch, buffer
        self._many_rows = _MANY_ROWS["int8", weight_NK.device.type]
        self.scale_N = (weight_NK.abs().amax(dim=1).float() / 127).to(weight_NK.dtype)
        scale_N1 = self.scale_N.float()[:, None]
        chunks = zip(weight_NK.split(_CHUNK_ROWS), scale_N1.split(_CHUNK_ROWS), strict=True)
        self.weight_NK = torch.cat(
            [(weight.float() / scale).round_().clamp_(-127, 127).to(torch.int8) for weight, scale in chunks]
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        torch = self._torch
        x_MK = x.reshape(-1, x.shape[-1])
        if len(x_MK) < self._many_rows:
            y_MN = torch._weight_int8pack_mm(x_MK, self.weight_NK, self.scale_N)
        else:
            wide_NK = self._buffer.of(self.weight_NK.shape, self.scale_N).copy_(self.weight_NK)  # any int8 is a bf16
            y_MN = torch.nn.functional.linear(x_MK, wide_NK).mul_(self.scale_N)
        return y_MN.view(*x.shape[:-1], -1)

    def dense(self) -> torch.Tensor:
        return self.weight_NK.float() * self.scale_N.float()[:, None]


class Int4Linear(Unfused):
    """Groups of integers from -7 to 7, each times its group's scale.

    Scales have five significant bits. A product of such a scale and an integer of three is exact in bf16: all devices
    multiply by the same weights, whether they widen them to fp32 or to bf16. Zero points are nought.
    """

    def __init__(self, weight_NK: torch.Tensor, buffer: WideBuffer) -> None:
        import torch

        self._torch, self._buffer = torch, buffer
        self._many_rows = _MANY_ROWS["int4", weight_NK.device.type]
        self.group = group_size(weight_NK.shape[1])
        chunks = [_to_int4(chunk, self.group) for chunk in weight_NK.split(_CHUNK_ROWS)]
        q_NK = torch.cat([q for q, _ in chunks])  # from 1 to 15
        self.scale_NG = torch.cat([scale for _, scale in chunks])
        scale_GN = self.scale_NG.t()
        self.scales_and_zeros_GN2 = torch.stack([scale_GN, torch.zeros_like(scale_GN)], dim=-1).contiguous()
        # Pairs of columns, the even one high: what CUDA packs; for many rows; and to read the weight back.
        self.pairs = q_NK[:, ::2] << 4 | q_NK[:, 1::2]
        if weight_NK.device.type == "cpu":
            self.packed = torch._convert_weight_to_int4pack_for_cpu(q_NK.int(), 1)
            self._few = torch._weight_int4pack_mm_for_cpu
        else:
            self.packed = torch._convert_weight_to_int4pack(self.pairs, _inner_tiles(weight_NK.shape[1]))
            self._few = torch._weight_int4pack_mm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x_MK = x.reshape(-1, x.shape[-1])
        if len(x_MK) < self._many_rows:
            y_MN = self._few(x_MK, self.packed, self.group, self.scales_and_zeros_GN2)
        else:
            wide_NK = self._widened(self._buffer.of((len(self.pairs), x.shape[-1]), self.scale_NG))
            y_MN = self._torch.nn.functional.linear(x_MK, wide_NK)
        return y_MN.view(*x.shape[:-1], -1)

    def _widened(self, wide_NK: torch.Tensor) -> torch.Tensor:
        wide_NK[:, ::2] = self.pairs >> 4
        wide_NK[:, 1::2] = self.pairs & 15
        wide_NK.view(*self.scale_NG.shape, self.group).sub_(8).mul_(self.scale_NG[..., None])
        return wide_NK

    def dense(self) -> torch.Tensor:
        sizes = (len(self.pairs), 2 * self.pairs.shape[1])
        return self._widened(self._torch.empty(sizes, dtype=self._torch.float32, device=self.pairs.device))


class Fp8Linear(Unfused):
    """Weights in e4m3 times one scale; activations rounded to e4m3 as they are: of size one, they need no scale."""

    seen_roundoff = 2.0**-4

    def __init__(self, weight_NK: torch.Tensor) -> None:
        import torch

        self._torch = torch
        self._out = weight_NK.dtype
        self.scale = weight_NK.abs().amax().float() / torch.finfo(torch.float8_e4m3fn).max
        self._one = torch.ones_like(self.scale)
        chunks = weight_NK.split(_CHUNK_ROWS)
        self.weight_NK = torch.cat([(chunk.float() / self.scale).to(torch.float8_e4m3fn) for chunk in chunks])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        torch = self._torch
        x_MK = x.reshape(-1, x.shape[-1]).to(torch.float8_e4m3fn)
        y_MN = torch._scaled_mm(x_MK, self.weight_NK.t(), scale_a=self._one, scale_b=self.scale, out_dtype=self._out)
        return y_MN.view(*x.shape[:-1], -1)

    def dense(self) -> torch.Tensor:
        return self.weight_NK.float() * self.scale

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self._torch.float8_e4m3fn).to(x.dtype)


class WideBuffer:
    """Room for one weight in the activations' dtype. The layers of a model take turns."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None

    def of(self, sizes: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """As large as the largest so far: made anew in a first launch, which is the check's, and not in a timed one."""
        import torch

        if self._buffer is None or self._buffer.numel() < math.prod(sizes):
            with torch.inference_mode(False):  # may be written to outside of it, too
                self._buffer = torch.empty(math.prod(sizes), dtype=like.dtype, device=like.device)
        return self._buffer[: math.prod(sizes)].view(*sizes)


class Linears:
    """Makes the linear layers of one model, all in the same format."""

    def __init__(self, weights: str) -> None:
        self._weights = weights
        self._buffer = WideBuffer()

    def __call__(self, weight_NK: torch.Tensor) -> Linear:
        """
        Raises:
            Unsupported: torch has no such product here, in its own words; it was tried on one row.
        """
        if self._weights == "dense":
            return Linear(weight_NK)
        import torch

        try:
            linear = self._made(weight_NK)
            linear(torch.ones_like(weight_NK[:1]))
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (RuntimeError, ValueError) as error:
            raise Unsupported(str(error).strip().partition("\n")[0]) from error
        return linear

    def _made(self, weight_NK: torch.Tensor) -> Linear:
        if self._weights == "fp8":
            return Fp8Linear(weight_NK)
        return {"int8": Int8Linear, "int4": Int4Linear}[self._weights](weight_NK, self._buffer)


WEIGHTS = ("dense", "int8", "int4", "fp8")


def stored_bytes(weights: str, rows: int, columns: int, item_bytes: int) -> int:
    """What a product has to read of such a weight: its elements and its scales.

    The zero points that torch's int4 product reads beside the scales are all nought here, and not counted.
    """
    return {
        "dense": rows * columns * item_bytes,
        "int8": rows * columns + rows * item_bytes,
        "int4": rows * columns // 2 + rows * (columns // group_size(columns)) * item_bytes,
        "fp8": rows * columns + 4,
    }[weights]


def arithmetic(weights: str, dtype: str) -> str:
    """What multiplies: the key of ``roof/compute/<key>``."""
    return "fp8-e4m3" if weights == "fp8" else dtype


def group_size(columns: int) -> int:
    return next((size for size in _GROUPS if columns % size == 0), _GROUPS[-1])


def _inner_tiles(columns: int) -> int:
    """Tiles of 16 columns that a thread of CUDA's int4 product loads at once: the more the better."""
    return next((tiles for tiles in (8, 4) if columns % (16 * tiles) == 0), 2)


def _to_int4(weight_NK: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers plus 8, as bytes; and the groups' scales, rounded up so that no weight is cut off."""
    import torch

    grouped_NGK = weight_NK.float().unflatten(1, (-1, group))
    bits_NG = (grouped_NGK.abs().amax(dim=-1) / 7).view(torch.int32)  # of 23 after the leading one, 4 are to stay
    scale_NG = ((bits_NG + (1 << 19) - 1) >> 19 << 19).view(torch.float32)
    q_NGK = (grouped_NGK / scale_NG[..., None]).round_() + 8
    return q_NGK.to(torch.uint8).flatten(1), scale_NG.to(weight_NK.dtype)
