"""``Decoder``: a language model in plain torch, with random weights: its forward pass, eager or compiled.

Two families. Llama's, as in Meta's reference (github.com/meta-llama/llama-models, models/llama3/model.py): RMSNorm
before each half-layer, rotary positions (RoPE), grouped-query attention, SwiGLU, no biases; Mistral's is the same, and
Mixtral's has several MLPs of which each token takes a few. And MPT's (github.com/mosaicml/llm-foundry): LayerNorm,
positions by ALiBi, GELU, biases. The q, k and v projections are fused into one matrix, gate and up into another; keys
and values live in a cache of fixed size. Letters of the shapes as in ``_decoder_shape``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from kernels._attention import attention_of
from kernels._biased import Biased
from kernels._decoder_shape import Shape, alibi_slopes, rope_frequencies
from kernels._linear import Linear, Linears
from kernels._mlp import Experts, Matrix, Mlp
from kernels._opaque import hidden

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

# Standard deviation of the attention scores. At 1 a head would average over nearly all of the context and leave next
# to nothing in its output; at 2 it rests on some dozens of positions, as trained heads do, and every head counts.
SCORE_SPREAD = 2.0
_BIAS_SPREAD = 0.25

KvCache: TypeAlias = "list[tuple[torch.Tensor, torch.Tensor]]"  # for each layer k_BGSE and v_BGSE
Trace: TypeAlias = "dict[int, list[torch.Tensor]]"  # at the wanted points, what is there in each forward


@dataclass(frozen=True)
class Norm:
    weight: torch.Tensor  # [D]
    bias: torch.Tensor | None  # [D]


@dataclass(frozen=True)
class Layer:
    attention_norm: Norm
    qkv: Matrix  # rows: H query heads, G key heads, G value heads, of E each
    out: Matrix
    mlp_norm: Norm
    mlp: Mlp | Experts


class Decoder:
    """The model with random weights, drawn on the device it runs on."""

    def __init__(
        self, shape: Shape, dtype: str, device: str, seed: int, positions: int, weights: str = "dense"
    ) -> None:
        import torch

        self.shape = shape
        self.dtype: torch.dtype = getattr(torch, TORCH_NAMES[dtype])
        self.device = device
        self._torch = torch
        self._generator = torch.Generator(device).manual_seed(seed)
        self.linears = Linears(weights)
        self.layers = [self._layer() for _ in range(shape.layers)]
        self.norm = self._norm()
        self.embedding_VD = self._weight(shape.vocabulary, shape.width)
        self.head = self._head(self.embedding_VD if shape.tied else self._weight(shape.vocabulary, shape.width))
        has_turns = shape.rope_theta is not None
        self.turns_SP2 = rope_turns(shape, positions, device) if has_turns else None
        self.alibi_HS = None if has_turns else alibi_biases(shape, positions, device).to(self.dtype)
        self._mask_HTS: torch.Tensor | None = None
        self._attend = attention_of(device, self.dtype)

    def _layer(self) -> Layer:
        shape = self.shape
        query_width, kv_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        qkv_ND = self._weight(query_width + 2 * kv_width, shape.width)
        qkv_ND[:query_width] *= SCORE_SPREAD
        return Layer(
            attention_norm=self._norm(),
            qkv=self._matrix(qkv_ND, "qkv"),
            out=self._matrix(self._weight(shape.width, query_width), "out"),
            mlp_norm=self._norm(),
            mlp=self._mlp_weights(),
        )

    def _mlp_weights(self) -> Mlp | Experts:
        shape = self.shape
        up_rows = (2 if shape.gated else 1) * shape.mlp_width
        if shape.experts == 1:
            up, down = self._weight(up_rows, shape.width), self._weight(shape.width, shape.mlp_width)
            return Mlp(self._matrix(up, "up"), self._matrix(down, "down"), shape.gated)
        return Experts(
            self._weight(shape.experts, shape.width),
            self._weight(shape.experts, up_rows, shape.width),
            self._weight(shape.experts, shape.width, shape.mlp_width),
            shape.experts_per_token,
            shape.gated,
        )

    def _weight(self, *sizes: int) -> torch.Tensor:
        """Variance 1/columns: what it multiplies keeps its size, at any width and depth."""
        weight = self._torch.empty(sizes, dtype=self.dtype, device=self.device)
        return weight.normal_(0.0, sizes[-1] ** -0.5, generator=self._generator)

    def _bias(self, rows: int) -> torch.Tensor:
        bias = self._torch.empty(rows, dtype=self.dtype, device=self.device)
        return bias.normal_(0.0, _BIAS_SPREAD, generator=self._generator)

    def _head(self, weight_VD: torch.Tensor) -> Linear:
        return self.linears(weight_VD)

    def _matrix(self, weight_NK: torch.Tensor, part: str) -> Matrix:
        """One of a layer's matrices. ``part``, which it is, matters where several devices share a model."""
        linear = self.linears(weight_NK)
        return Biased(linear, self._bias(len(weight_NK))) if self.shape.biases else linear

    def _norm(self) -> Norm:
        weight = self._torch.empty(self.shape.width, dtype=self.dtype, device=self.device)
        weight.uniform_(0.5, 1.5, generator=self._generator)
        return Norm(weight, self._bias(self.shape.width) if self.shape.biases else None)

    def new_cache(self, batch: int, slots: int) -> KvCache:
        """Random keys and values, of the size of the model's own. Any prefix is a view that attention reads as is."""
        return [(self._random_heads(batch, slots), self._random_heads(batch, slots)) for _ in range(self.shape.layers)]

    def _random_heads(self, batch: int, slots: int) -> torch.Tensor:
        sizes = batch, self.shape.kv_heads, slots, self.shape.head_width
        return self._torch.empty(sizes, dtype=self.dtype, device=self.device).normal_(generator=self._generator)

    def random_tokens(self, batch: int, tokens: int) -> torch.Tensor:
        vocabulary = self.shape.vocabulary
        return self._torch.randint(vocabulary, (batch, tokens), device=self.device, generator=self._generator)

    def compile(self) -> None:
        """From here on half-layers run as torch has compiled them. One compilation serves all layers: they are alike.

        Raises:
            RuntimeError: at the first forward, where torch cannot.
        """
        self._torch._dynamo.reset()  # the models compiled before in this process count towards its limit
        if self.device == "cpu":
            self.layers = [_opaque(layer) for layer in self.layers]
        self._attention = self._torch.compile(self._attention, fullgraph=True)  # type: ignore[method-assign]
        self._mlp = self._torch.compile(self._mlp, fullgraph=True)  # type: ignore[method-assign]

    def forward(self, tokens_BT: torch.Tensor, start: int, cache: KvCache, trace: Trace | None = None) -> torch.Tensor:
        """Logits_BV after the last of these tokens, which stand at positions ``start``, ``start + 1``, …

        Their keys and values go into the cache, whose earlier positions are attended to. Several tokens at once are
        taken at the start of a sequence only. Point 2l of a trace is what layer l gets, 2l + 1 what its MLP gets, and
        the last point what the final norm gets; point −1 − l is which experts layer l chose.

        ``start`` is a Python int: it costs a few views a layer, no copy and no wait, and only the part of the cache
        in use is read. A position held on the device would need a mask over all of it.
        """
        if start > 0 and tokens_BT.shape[1] > 1:
            raise ValueError(f"{tokens_BT.shape[1]} tokens at position {start}: only one at a time after the first")
        if self.alibi_HS is not None and tokens_BT.shape[1] > 1 and self._mask_HTS is None:
            self._mask_HTS = alibi_mask(self.alibi_HS)
        x_BTD = self._torch.nn.functional.embedding(tokens_BT, self.embedding_VD)
        for index, layer in enumerate(self.layers):
            _keep(trace, 2 * index, x_BTD)
            x_BTD = self._attention(layer, x_BTD, start, cache[index])
            _keep(trace, 2 * index + 1, x_BTD)
            x_BTD, chosen_BTk = self._mlp(layer, x_BTD)
            _keep(trace, -1 - index, chosen_BTk)
        _keep(trace, 2 * len(self.layers), x_BTD)
        return self.head(self._normed(x_BTD[:, -1], self.norm))

    def _attention(
        self, layer: Layer, x_BTD: torch.Tensor, start: int, cache: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """x with what attention adds to it."""
        heads, kv_heads, head_width = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        batch, tokens, _ = x_BTD.shape
        end = start + tokens
        qkv = layer.qkv(self._normed(x_BTD, layer.attention_norm)).view(batch, tokens, -1, head_width)
        qk = self._rotated(qkv[:, :, : heads + kv_heads], start)
        cache[0][:, :, start:end] = qk[:, :, heads:].transpose(1, 2)
        cache[1][:, :, start:end] = qkv[:, :, heads + kv_heads :].transpose(1, 2)
        y_BTHE = self._attended(qk[:, :, :heads].to(self.dtype), cache[0][:, :, :end], cache[1][:, :, :end])
        return x_BTD + layer.out(y_BTHE.reshape(batch, tokens, heads * head_width))

    def _attended(self, q_BTHE: torch.Tensor, k_BGSE: torch.Tensor, v_BGSE: torch.Tensor) -> torch.Tensor:
        attend = self._torch.nn.functional.scaled_dot_product_attention
        batch, tokens, _, head_width = q_BTHE.shape
        kv_heads, end = self.shape.kv_heads, k_BGSE.shape[2]
        if tokens == 1:
            # One token needs no mask, so the heads that share keys can stand as rows of one query: a grouped call
            # would first copy the keys once for each of them where a backend has no grouping of its own.
            bias = None if self.alibi_HS is None else self.alibi_HS[:, -end:].unflatten(0, (kv_heads, -1))[None]
            y = attend(q_BTHE.view(batch, kv_heads, -1, head_width), k_BGSE, v_BGSE, attn_mask=bias)
            return y.reshape(batch, 1, -1, head_width)
        q_BHTE, is_grouped = q_BTHE.transpose(1, 2), kv_heads < self.shape.heads
        if self._mask_HTS is None:
            return self._attend(q_BHTE, k_BGSE, v_BGSE, is_causal=True).transpose(1, 2)
        mask_HTS = self._mask_HTS[:, :tokens, :tokens]
        return attend(q_BHTE, k_BGSE, v_BGSE, attn_mask=mask_HTS[None], enable_gqa=is_grouped).transpose(1, 2)

    def _rotated(self, x_BTHE: torch.Tensor, start: int) -> torch.Tensor:
        """Each pair of neighbours turned by its position's angle, in fp32 as Meta's reference does; fp32 comes back.

        With ALiBi nothing is turned.
        """
        torch = self._torch
        if self.turns_SP2 is None:
            return x_BTHE
        turns = self.turns_SP2[start : start + x_BTHE.shape[1], None]
        pairs = x_BTHE.float().unflatten(-1, (-1, 2))
        if torch.compiler.is_compiling():  # it generates no code for complex numbers
            (even, odd), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
            return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns)).flatten(-2)

    def _mlp(self, layer: Layer, x_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x with what the MLP adds to it; and the experts that were chosen, where there are several."""
        normed_BTD = self._normed(x_BTD, layer.mlp_norm)
        if isinstance(layer.mlp, Mlp):
            return x_BTD + layer.mlp(normed_BTD), None
        added_BTD, chosen_BTk = layer.mlp(normed_BTD)
        return x_BTD + added_BTD, chosen_BTk

    def _normed(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        functional, sizes = self._torch.nn.functional, norm.weight.shape
        if self.shape.centred:
            return functional.layer_norm(x, sizes, norm.weight, norm.bias, self.shape.norm_eps)
        return functional.rms_norm(x, sizes, norm.weight, self.shape.norm_eps)


def _opaque(layer: Layer) -> Layer:
    """The same layer, its matrices hidden from a compiler; experts are left as they are."""
    mlp = layer.mlp
    if isinstance(mlp, Mlp):
        mlp = Mlp(hidden(mlp.up), hidden(mlp.down), mlp.gated)
    return dataclasses.replace(layer, qkv=hidden(layer.qkv), out=hidden(layer.out), mlp=mlp)


def _keep(trace: Trace | None, point: int, value: torch.Tensor | None) -> None:
    if trace is not None and point in trace and value is not None:
        trace[point].append(value)


def rope_turns(shape: Shape, positions: int, device: str) -> torch.Tensor:
    """For each position and pair the cosine and sine of its angle: [S, E/2, 2]; in float64, then rounded."""
    import torch

    positions_S = torch.arange(positions, dtype=torch.float64, device=device)
    angles = torch.outer(positions_S, torch.tensor(rope_frequencies(shape), dtype=torch.float64, device=device))
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def alibi_biases(shape: Shape, positions: int, device: str) -> torch.Tensor:
    """What each head adds to the score of a key so far back, down to the query's own position, in float64."""
    import torch

    distances_S = torch.arange(positions - 1, -1, -1, dtype=torch.float64, device=device)
    return -torch.outer(torch.tensor(alibi_slopes(shape.heads), dtype=torch.float64, device=device), distances_S)


def alibi_mask(alibi_HS: torch.Tensor) -> torch.Tensor:
    """The same for every query and key of a prompt: [H, T, S], minus infinity for keys behind their query."""
    import torch

    last = alibi_HS.shape[1] - 1
    positions_S = torch.arange(last + 1, device=alibi_HS.device)
    distances_TS = positions_S[:, None] - positions_S
    return alibi_HS[:, last - distances_TS.clamp(min=0)].masked_fill_(distances_TS < 0, float("-inf"))
