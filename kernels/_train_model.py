"""A decoder of the Llama family that can be trained: its parameters, its loss on a batch, and the work of a step.

The shapes are those of ``_decoder_shape``; there is no cache, and every position has its logits. In bf16 it is trained
in mixed precision (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1): the parameters are kept in fp32, each
forward rounds them to bf16, products and the residual stream are bf16, sums within products, norms, rotations, softmax
and loss are fp32, and each gradient comes back to its parameter in fp32. In fp32 all of it is fp32.

Letters of the shapes: B sequences, S = T + 1 tokens of each, of which T are predicted from those before, D width,
H query heads, G key-value heads, E width of a head, F width of the MLP, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.types import Work
from kernels._decoder import rope_turns
from kernels._decoder_shape import Shape

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {"bf16": "bfloat16", "fp32": "float32"}
DTYPES = tuple(TORCH_NAMES)
MODELS = ("tiny", "smollm2-135m", "llama-3.2-1b")  # a larger one fits on no single GPU with its optimiser

_ITEM_BYTES = {"bf16": 2, "fp32": 4}
_QUERY_SPREAD = 2.0  # of the attention scores: heads that attend to some positions more than to others


def step_work(shape: Shape, batch: int, tokens: int) -> Work:
    """The work of a step on ``batch`` sequences of ``tokens`` predicted tokens each.

    6 FLOPs for each weight of a matrix product and token: 2 forward, 4 backward (Kaplan et al. 2020, arXiv 2001.08361,
    section 2.1; 6 N D). The embedding is a look-up and counts nothing; tied, the same table counts as the head.
    Attention: 12·H·E a layer for each pair of a token and one that it may see, three times the forward's 4·H·E
    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B, where all T^2 pairs count; the masked half is no work here, as
    in Dao 2023, arXiv 2307.08691, section 4.1). Recomputation, norms, loss and optimiser count nothing.
    """
    rows = batch * tokens
    matrices = shape.layers * shape.layer_matrix_parameters + shape.vocabulary * shape.width
    pairs = batch * (tokens * (tokens + 1) // 2)
    attention = 12 * shape.layers * shape.heads * shape.head_width * pairs
    return Work(unit="token/s", flops=6 * matrices * rows + attention, items=rows, item_unit="token")


def activation_bytes(shape: Shape, batch: int, tokens: int, dtype: str) -> int:
    """What the forward keeps for the backward, at most: with norms that are not fused, and repeated keys and values."""
    item = _ITEM_BYTES[dtype]
    norms = 2 * shape.width * (2 * 4 + 2 * item)  # input and normed in fp32, residual and output in the dtype
    heads = shape.heads * (5 * shape.head_width * item + 4)  # q, k, v, output twice; the softmax's sums
    per_row = norms + heads + 4 * shape.mlp_width * item  # gate and up, silu, product
    last_row = shape.width * (2 * 4 + 2 * item) + shape.vocabulary * (item + 2 * 4)  # logits, also in fp32, their log
    return batch * tokens * (shape.layers * per_row + last_row)


def state_bytes(shape: Shape) -> int:
    """Parameters, gradients and both moments, in fp32.

    16 bytes a parameter, as Rajbhandari et al. 2020 (arXiv 1910.02054, section 3.1) have it with a gradient and a
    second copy of the parameters in fp16.
    """
    return 4 * 4 * shape.parameters


def gradient_bytes(shape: Shape) -> int:
    """The gradients' part of that. There are none from the beginning of a step until its backward."""
    return 4 * shape.parameters


def step_bytes(shape: Shape, batch: int, tokens: int, dtype: str) -> int:
    """What a step takes beside the state, at most: activations, rounded parameters, and what the backward works on."""
    item = _ITEM_BYTES[dtype]
    rounded = item * shape.parameters if dtype != "fp32" else 0
    table = (4 + item) * shape.vocabulary * shape.width  # a tied table has a second gradient for a while
    backward = batch * tokens * ((4 + item) * shape.vocabulary + 8 * item * (shape.width + shape.mlp_width))
    return activation_bytes(shape, batch, tokens, dtype) + rounded + table + backward


@dataclass(frozen=True)
class Trace:
    """The residual stream at some points of a step, each with its gradient once the backward is through.

    Point l is what layer l gets, the last one what the final norm gets.
    """

    points: frozenset[int]
    stream: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, point: int, x_BTD: torch.Tensor) -> None:
        if point in self.points:
            x_BTD.retain_grad()
            self.stream[point] = x_BTD


@dataclass(frozen=True)
class Layer:
    attention_norm: torch.Tensor  # [D]
    qkv: torch.Tensor  # rows: H query heads, G key heads, G value heads, of E each
    out: torch.Tensor  # [D, H·E]
    mlp_norm: torch.Tensor  # [D]
    gate_up: torch.Tensor  # rows: F of the gate, F of up
    down: torch.Tensor  # [D, F]


class Model:
    """Random parameters in fp32, drawn on the device."""

    def __init__(self, shape: Shape, dtype: str, device: str, seed: int, tokens: int) -> None:
        import torch

        self.shape = shape
        self.dtype: torch.dtype = getattr(torch, TORCH_NAMES[dtype])
        self._torch = torch
        self._generator = torch.Generator(device).manual_seed(seed)
        # Only CUDA's flash attention, and so not fp32, shares keys among heads by itself and never holds all scores.
        self._shares_keys = self._generator.device.type == "cuda" and dtype != "fp32"
        query_width, kv_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.layers = []
        for _ in range(shape.layers):
            qkv = self._matrix(query_width + 2 * kv_width, shape.width)
            qkv[:query_width] *= _QUERY_SPREAD
            self.layers.append(
                Layer(
                    attention_norm=self._norm_weight(),
                    qkv=qkv,
                    out=self._matrix(shape.width, query_width),
                    mlp_norm=self._norm_weight(),
                    gate_up=self._matrix(2 * shape.mlp_width, shape.width),
                    down=self._matrix(shape.width, shape.mlp_width),
                )
            )
        self.norm_D = self._norm_weight()
        self.embedding_VD = self._matrix(shape.vocabulary, shape.width)
        self.head_VD = self.embedding_VD if shape.tied else self._matrix(shape.vocabulary, shape.width)
        self.turns_TP = torch.view_as_complex(rope_turns(shape, tokens, device))
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def _matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Variance 1/columns: what it multiplies keeps its size."""
        matrix = self._torch.empty(rows, columns, device=self._generator.device)
        return matrix.normal_(0.0, columns**-0.5, generator=self._generator)

    def _norm_weight(self) -> torch.Tensor:
        weight = self._torch.empty(self.shape.width, device=self._generator.device)
        return weight.uniform_(0.5, 1.5, generator=self._generator)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """All of them by name, each once."""
        named = {
            f"{name} of layer {index}": parameter
            for index, layer in enumerate(self.layers)
            for name, parameter in vars(layer).items()
        }
        named |= {"norm": self.norm_D, "embedding": self.embedding_VD}
        return named if self.shape.tied else named | {"head": self.head_VD}

    def loss(self, tokens_BS: torch.Tensor, trace: Trace | None = None) -> torch.Tensor:
        """The mean cross-entropy, in nats, of each token but the first given those before it."""
        functional = self._torch.nn.functional
        trace = trace or Trace(frozenset())
        x_BTD = functional.embedding(tokens_BS[:, :-1], self.embedding_VD).to(self.dtype)
        for index, layer in enumerate(self.layers):
            trace.keep(index, x_BTD)
            x_BTD = x_BTD + self._attention(layer, x_BTD)
            x_BTD = x_BTD + self._mlp(layer, x_BTD)
        trace.keep(len(self.layers), x_BTD)
        logits_BTV = self._linear(self._norm(x_BTD, self.norm_D), self.head_VD)
        return functional.cross_entropy(logits_BTV.float().flatten(0, 1), tokens_BS[:, 1:].flatten())

    def _attention(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        heads, kv_heads, head_width = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        qkv = self._linear(self._norm(x_BTD, layer.attention_norm), layer.qkv).unflatten(-1, (-1, head_width))
        qk, v_BTGE = qkv.split((heads + kv_heads, kv_heads), dim=2)
        q_BTHE, k_BTGE = self._rotated(qk).split((heads, kv_heads), dim=2)
        q_BHTE, k_BGTE, v_BGTE = (heads_BTXE.transpose(1, 2) for heads_BTXE in (q_BTHE, k_BTGE, v_BTGE))
        if not self._shares_keys:
            k_BGTE, v_BGTE = (kv.repeat_interleave(heads // kv_heads, dim=1) for kv in (k_BGTE, v_BGTE))
        y_BHTE = self._torch.nn.functional.scaled_dot_product_attention(
            q_BHTE, k_BGTE, v_BGTE, is_causal=True, enable_gqa=self._shares_keys
        )
        return self._linear(y_BHTE.transpose(1, 2).flatten(2), layer.out)

    def _rotated(self, x_BTXE: torch.Tensor) -> torch.Tensor:
        """Each pair of neighbours turned by its position's angle, in fp32."""
        torch = self._torch
        pairs = torch.view_as_complex(x_BTXE.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turns_TP[:, None]).flatten(-2).to(self.dtype)

    def _mlp(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        gate_BTF, up_BTF = self._linear(self._norm(x_BTD, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return self._linear(self._torch.nn.functional.silu(gate_BTF) * up_BTF, layer.down)

    def _norm(self, x: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
        return self._torch.nn.functional.rms_norm(x, weight_D.shape, weight_D.to(self.dtype), self.shape.norm_eps)

    def _linear(self, x: torch.Tensor, weight_NK: torch.Tensor) -> torch.Tensor:
        return self._torch.nn.functional.linear(x, weight_NK.to(self.dtype))
