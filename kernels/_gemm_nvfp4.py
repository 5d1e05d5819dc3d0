"""NVFP4: 4-bit floats (E2M1), 16 of which share a scale (E4M3), as Blackwell's tensor cores multiply them.

Eight magnitudes of E2M1 (OCP Microscaling Formats v1.0, section 5.3.3) times a scale of four significant bits: bfloat16
holds such a value exactly. So operands are kept in bfloat16, which the check understands, and packed for the library
that multiplies them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 16
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of codes 0 to 7; 8 more is the sign
_HALFWAY = tuple((low + high) / 2 for low, high in itertools.pairwise(_MAGNITUDES))
_LARGEST = _MAGNITUDES[-1]
_SCALE_ROWS, _SCALE_COLUMNS = 128, 4  # cuBLAS's tile of scales


def nearest(x_RK: torch.Tensor) -> torch.Tensor:
    """The values that x becomes, in bfloat16. A block's scale is its largest magnitude over 6, rounded to E4M3."""
    import torch

    blocks = x_RK.unflatten(1, (-1, _BLOCK))
    scales = (blocks.abs().amax(2, keepdim=True) / _LARGEST).to(torch.float8_e4m3fn).to(x_RK.dtype)
    magnitudes = torch.tensor(_MAGNITUDES, dtype=x_RK.dtype, device=x_RK.device)
    return (magnitudes[_codes(blocks.abs() / scales)].copysign(blocks) * scales).flatten(1).bfloat16()


def pack(values_RK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two codes to the byte, the first one low, as ``float4_e2m1fn_x2``; and the scales in cuBLAS's order, E4M3.

    Args:
        values_RK: what ``nearest`` gave; K is a multiple of 16. A block's largest value is 6 scales, so it tells them.
    """
    import torch

    blocks = values_RK.float().unflatten(1, (-1, _BLOCK))
    scales = blocks.abs().amax(2, keepdim=True) / _LARGEST
    codes = (_codes(blocks.abs() / scales) + 8 * blocks.signbit()).to(torch.uint8).flatten(1)
    packed = codes[:, 0::2] | codes[:, 1::2] << 4
    return packed.view(torch.float4_e2m1fn_x2), in_tiles(scales.squeeze(2).to(torch.float8_e4m3fn))


def in_tiles(scales_RS: torch.Tensor) -> torch.Tensor:
    """Scales as cuBLAS reads them: tiles of 128 x 4, in each of which four bands of 32 rows lie side by side.

    "1D Block Scaling Factors Layout" (cuBLAS documentation, section "Narrow Precision Data Types Usage"): within a
    tile, the scale of row r and column c is at 16 (r mod 32) + 4 (r div 32) + c; tiles follow each other row by row.
    Missing rows and columns of the last tiles are zero.
    """
    import torch

    rows, columns = scales_RS.shape
    padding = (0, -columns % _SCALE_COLUMNS, 0, -rows % _SCALE_ROWS)
    bits = torch.nn.functional.pad(scales_RS.view(torch.uint8), padding)
    tiles = bits.unflatten(1, (-1, _SCALE_COLUMNS)).unflatten(0, (-1, _SCALE_ROWS // 32, 32))
    return tiles.permute(0, 3, 2, 1, 4).flatten().view(scales_RS.dtype)


def _codes(magnitudes: torch.Tensor) -> torch.Tensor:
    """The codes 0 to 7 of the nearest magnitudes."""
    import torch

    halfway = torch.tensor(_HALFWAY, dtype=magnitudes.dtype, device=magnitudes.device)
    return torch.bucketize(magnitudes, halfway, out_int32=True)
