"""Attention of all positions of a prompt or a document at once: by torch's fused operator, or in blocks of queries.

For bf16 on a CPU without AMX, torch's fused operator does not reach the products that oneDNN has for such a CPU, and is
several times as slow as these (tests/benchmarks/test_attention_benchmark.py). Elsewhere it is taken as it is.

Letters: B sequences, H query heads, G key-value heads, each for H/G of them, T queries, S keys, E width of a head;
N = B·G; R rows of queries that meet the same keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

Attend: TypeAlias = "Callable[..., torch.Tensor]"  # (q_BHTE, k_BGSE, v_BGSE, is_causal=False) -> y_BHTE

# Queries of a block. The more, the less often oneDNN lays out the same keys anew. The fewer, the fewer scores are
# computed that a causal mask hides, and the less memory they take: a large piece goes back to the system when it is
# free, and has to be cleared by it for the next block.
_MOST_QUERIES, _LEAST_QUERIES = 128, 32
_SCORES_BYTES = 8 << 20


def attention_of(device: str, dtype: torch.dtype) -> Attend:
    """The faster one there."""
    import torch

    has_products = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
    return by_blocks if device == "cpu" and dtype == torch.bfloat16 and has_products else fused


def fused(q_BHTE: torch.Tensor, k_BGSE: torch.Tensor, v_BGSE: torch.Tensor, is_causal: bool = False) -> torch.Tensor:
    import torch

    shares = k_BGSE.shape[1] < q_BHTE.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(
        q_BHTE, k_BGSE, v_BGSE, is_causal=is_causal, enable_gqa=shares
    )


def by_blocks(
    q_BHTE: torch.Tensor, k_BGSE: torch.Tensor, v_BGSE: torch.Tensor, is_causal: bool = False
) -> torch.Tensor:
    """Two products and a softmax for each block of queries; scores are rounded to the dtype in between."""
    import torch

    batch, heads, tokens, head_width = q_BHTE.shape
    k_NES, v_NSE = k_BGSE.flatten(0, 1).transpose(1, 2), v_BGSE.flatten(0, 1)
    per_query_bytes = batch * heads * k_BGSE.shape[2] * q_BHTE.itemsize
    block = min(_MOST_QUERIES, max(_LEAST_QUERIES, _SCORES_BYTES // per_query_bytes))
    later_TT = q_BHTE.new_full((block, block), float("-inf")).triu_(1)
    nothing = q_BHTE.new_empty(1, 1, 1)  # beta = 0: not read
    y_BTHE = q_BHTE.new_empty(batch, tokens, heads, head_width)
    for begin in range(0, tokens, block):
        end = min(begin + block, tokens)
        seen = end if is_causal else k_BGSE.shape[2]
        q_NRE = q_BHTE[:, :, begin:end].reshape(len(v_NSE), -1, head_width)
        scores_NRS = torch.baddbmm(nothing, q_NRE, k_NES[:, :, :seen], beta=0, alpha=head_width**-0.5)
        if is_causal:
            own_BHTT = scores_NRS.view(batch, heads, end - begin, seen)[..., begin:]
            own_BHTT += later_TT[: end - begin, : end - begin]
        y_NRE = torch.bmm(scores_NRS.softmax(dim=-1), v_NSE[:, :seen])
        y_BTHE[:, begin:end] = y_NRE.view(batch, heads, end - begin, head_width).transpose(1, 2)
    return y_BTHE.transpose(1, 2)
