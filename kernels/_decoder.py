"""A decoder of the Llama family in plain torch: its published shapes, its random weights, its forward pass, its work.

Architecture as in Meta's reference (github.com/meta-llama/llama-models, models/llama3/model.py): RMSNorm before each
half-layer, rotary positions (RoPE), grouped-query attention, SwiGLU, no biases. The q, k and v projections are fused
into one matrix, gate and up into another; keys and values live in a cache of fixed size. Nothing is compiled.

Letters of the shapes: B sequences, T tokens of this call, S positions in the cache, D width, H query heads,
G key-value heads, E width of a head, F width of the MLP, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bench.errors import UsageError
from bench.types import Work

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPES = tuple(ITEM_BYTES)
TORCH_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

# Standard deviation of the attention scores. At 1 a head would average over nearly all of the context and leave next
# to nothing in its output; at 2 it rests on some dozens of positions, as trained heads do, and every head counts.
SCORE_SPREAD = 2.0

KvCache: TypeAlias = "list[tuple[torch.Tensor, torch.Tensor]]"  # for each layer k_BGSE and v_BGSE
Trace: TypeAlias = "dict[int, list[torch.Tensor]]"  # at the wanted points, x_BTD of each forward


@dataclass(frozen=True)
class RopeScaling:
    factor: float
    original_positions: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0


@dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int
    positions: int
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool  # the embedding table is the output head as well
    norm_eps: float = 1e-5

    @property
    def layer_matrix_parameters(self) -> int:
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.width * self.mlp_width

    @property
    def streamed_parameters(self) -> int:
        """Weights that every forward reads whole: layers, norms and head, and not an untied embedding table."""
        norms = (2 * self.layers + 1) * self.width
        return self.layers * self.layer_matrix_parameters + norms + self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        return self.streamed_parameters + (0 if self.tied else self.vocabulary * self.width)


# From each model's config.json on huggingface.co. "tiny" is nobody's: small, with everything that the others have.
SHAPES = {
    "tiny": Shape(2, 64, 4, 2, 16, 160, 512, 4096, 1e4, RopeScaling(8.0, 64), tied=False),
    # HuggingFaceTB/SmolLM2-135M
    "smollm2-135m": Shape(30, 576, 9, 3, 64, 1536, 49_152, 8192, 1e5, None, tied=True),
    # meta-llama/Llama-3.2-1B
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 64, 8192, 128_256, 131_072, 5e5, RopeScaling(32.0, 8192), tied=True),
    # meta-llama/Llama-3.1-8B
    "llama-3.1-8b": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, 131_072, 5e5, RopeScaling(8.0, 8192), tied=False),
}


def require_positions(model: str, positions: int) -> None:
    """
    Raises:
        UsageError: the model was not made for so long a context.
    """
    if positions > SHAPES[model].positions:
        raise UsageError(f"{model} has {SHAPES[model].positions} positions, not {positions}", "Ask for fewer")


def forward_work(shape: Shape, batch: int, starts: range, tokens: int, item_bytes: int) -> Work:
    """The work of one forward over ``tokens`` tokens a sequence at each of these start positions.

    FLOPs: 2 for each matrix weight and token, the head only at the last token, for its logits alone are computed
    (Kaplan et al. 2020, arXiv 2001.08361, table 1); attention 4·H·E for each query and each position it may see, so
    half a square when T = S (Dao 2023, arXiv 2307.08691, section 4.1). Norms, rotations and activations count nothing.

    Bytes: what no implementation can avoid: each streamed weight read once a forward, the cached keys and values of
    earlier positions read, the new ones written (Pope et al. 2022, arXiv 2211.05102, section 2).
    """
    forwards = len(starts)
    per_token = 2 * shape.layers * shape.layer_matrix_parameters
    head = 2 * shape.vocabulary * shape.width
    visible = sum(tokens * start + tokens * (tokens + 1) // 2 for start in starts)  # summed over the queries
    attention = 4 * shape.layers * shape.heads * shape.head_width * visible
    cached = sum(start + tokens for start in starts) * 2 * shape.layers * shape.kv_heads * shape.head_width
    return Work(
        unit="token/s",
        flops=batch * (forwards * (tokens * per_token + head) + attention),
        bytes_moved=(forwards * shape.streamed_parameters + batch * cached) * item_bytes,
        items=forwards * batch * tokens,
        item_unit="token",
    )


class Linear:
    """``x_…K -> x_…K @ weight_NK.T``.

    A CPU gets the weight in oneDNN's own blocked layout, as ``torch.compile`` does when it freezes a model: read row
    by row, a weight streams at little more than half the speed for a single token. Where oneDNN has no such layout
    for the dtype, the weight stays as it is.
    """

    def __init__(self, weight_NK: torch.Tensor) -> None:
        import torch

        self._weight = weight_NK
        self._apply: Any = lambda x: torch.nn.functional.linear(x, weight_NK)
        if weight_NK.device.type == "cpu" and torch.backends.mkldnn.is_available():
            try:
                packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK)
            except (RuntimeError, AttributeError):  # not for this dtype; not in this torch
                return
            linear = torch.ops.mkldnn._linear_pointwise.default
            self._weight = packed
            self._apply = lambda x: linear(x, packed, None, "none", [], "")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._apply(x)
        return y

    def dense(self) -> torch.Tensor:
        """The weight, row by row again."""
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight


@dataclass(frozen=True)
class Layer:
    attention_norm: torch.Tensor  # [D]
    qkv: Linear  # rows: H query heads, G key heads, G value heads, of E each
    out: Linear
    mlp_norm: torch.Tensor  # [D]
    gate_up: Linear  # rows: F of the gate, F of up
    down: Linear


class Decoder:
    """The model with random weights, drawn on the device it runs on."""

    def __init__(self, shape: Shape, dtype: str, device: str, seed: int, positions: int) -> None:
        import torch

        self.shape = shape
        self.dtype: torch.dtype = getattr(torch, TORCH_NAMES[dtype])
        self.device = device
        self._torch = torch
        self._generator = torch.Generator(device).manual_seed(seed)
        query_width, kv_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.layers = []
        for _ in range(shape.layers):
            qkv_ND = self._matrix(query_width + 2 * kv_width, shape.width)
            qkv_ND[:query_width] *= SCORE_SPREAD
            self.layers.append(
                Layer(
                    attention_norm=self._norm_weight(),
                    qkv=Linear(qkv_ND),
                    out=Linear(self._matrix(shape.width, query_width)),
                    mlp_norm=self._norm_weight(),
                    gate_up=Linear(self._matrix(2 * shape.mlp_width, shape.width)),
                    down=Linear(self._matrix(shape.width, shape.mlp_width)),
                )
            )
        self.norm_D = self._norm_weight()
        self.embedding_VD = self._matrix(shape.vocabulary, shape.width)
        self.head = Linear(self.embedding_VD if shape.tied else self._matrix(shape.vocabulary, shape.width))
        self.turns_SE = rope_turns(shape, positions, device)

    def _matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Variance 1/columns: what it multiplies keeps its size, at any width and depth."""
        matrix = self._torch.empty(rows, columns, dtype=self.dtype, device=self.device)
        return matrix.normal_(0.0, columns**-0.5, generator=self._generator)

    def _norm_weight(self) -> torch.Tensor:
        weight = self._torch.empty(self.shape.width, dtype=self.dtype, device=self.device)
        return weight.uniform_(0.5, 1.5, generator=self._generator)

    def new_cache(self, batch: int, slots: int) -> KvCache:
        """Random keys and values, of the size of the model's own. Any prefix is a view that attention reads as is."""
        sizes = (self.shape.layers, 2, batch, self.shape.kv_heads, slots, self.shape.head_width)
        cache = self._torch.empty(sizes, dtype=self.dtype, device=self.device).normal_(generator=self._generator)
        return [(k_BGSE, v_BGSE) for k_BGSE, v_BGSE in cache]

    def random_tokens(self, batch: int, tokens: int) -> torch.Tensor:
        vocabulary = self.shape.vocabulary
        return self._torch.randint(vocabulary, (batch, tokens), device=self.device, generator=self._generator)

    def forward(self, tokens_BT: torch.Tensor, start: int, cache: KvCache, trace: Trace | None = None) -> torch.Tensor:
        """Logits_BV after the last of these tokens, which stand at positions ``start``, ``start + 1``, …

        Their keys and values go into the cache, whose earlier positions are attended to. Several tokens at once are
        taken at the start of a sequence only. Point 2l of a trace is what layer l gets, 2l + 1 what its MLP gets, and
        the last point what the final norm gets.

        ``start`` is a Python int: it costs a few views a layer, no copy and no wait, and only the part of the cache
        in use is read. A position held on the device would need a mask over all of it.
        """
        if start > 0 and tokens_BT.shape[1] > 1:
            raise ValueError(f"{tokens_BT.shape[1]} tokens at position {start}: only one at a time after the first")
        x_BTD = self._torch.nn.functional.embedding(tokens_BT, self.embedding_VD)
        for index, layer in enumerate(self.layers):
            _keep(trace, 2 * index, x_BTD)
            x_BTD = x_BTD + self._attention(layer, x_BTD, start, cache[index])
            _keep(trace, 2 * index + 1, x_BTD)
            x_BTD = x_BTD + self._mlp(layer, x_BTD)
        _keep(trace, 2 * len(self.layers), x_BTD)
        return self.head(self._norm(x_BTD[:, -1], self.norm_D))

    def _attention(
        self, layer: Layer, x_BTD: torch.Tensor, start: int, cache: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        heads, kv_heads, head_width = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        batch, tokens, _ = x_BTD.shape
        end = start + tokens
        qkv = layer.qkv(self._norm(x_BTD, layer.attention_norm)).view(batch, tokens, -1, head_width)
        qk = self._rotated(qkv[:, :, : heads + kv_heads], start)
        q_BTHE = qk[:, :, :heads].to(self.dtype)
        k_BGSE, v_BGSE = cache[0][:, :, :end], cache[1][:, :, :end]
        k_BGSE[:, :, start:] = qk[:, :, heads:].transpose(1, 2)
        v_BGSE[:, :, start:] = qkv[:, :, heads + kv_heads :].transpose(1, 2)
        attend = self._torch.nn.functional.scaled_dot_product_attention
        if tokens == 1:
            # One token needs no mask, so the heads that share keys can stand as rows of one query: a grouped call
            # would first copy the keys once for each of them where a backend has no grouping of its own.
            y = attend(q_BTHE.view(batch, kv_heads, heads // kv_heads, head_width), k_BGSE, v_BGSE)
        else:
            y = attend(q_BTHE.transpose(1, 2), k_BGSE, v_BGSE, is_causal=True, enable_gqa=True).transpose(1, 2)
        return layer.out(y.reshape(batch, tokens, heads * head_width))

    def _rotated(self, x_BTHE: torch.Tensor, start: int) -> torch.Tensor:
        """Each pair of neighbours turned by its position's angle, in fp32 as Meta's reference does; fp32 comes back."""
        torch = self._torch
        turns_TE = self.turns_SE[start : start + x_BTHE.shape[1], None]
        pairs = torch.view_as_complex(x_BTHE.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns_TE).flatten(-2)

    def _mlp(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        gate_BTF, up_BTF = layer.gate_up(self._norm(x_BTD, layer.mlp_norm)).chunk(2, dim=-1)
        return layer.down(self._torch.nn.functional.silu(gate_BTF) * up_BTF)

    def _norm(self, x: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
        return self._torch.nn.functional.rms_norm(x, weight_D.shape, weight_D, self.shape.norm_eps)


def _keep(trace: Trace | None, point: int, x_BTD: torch.Tensor) -> None:
    if trace is not None and point in trace:
        trace[point].append(x_BTD)


def rope_frequencies(shape: Shape) -> list[float]:
    """Radians per position of each pair of a head's elements (Su et al. 2021, arXiv 2104.09864, section 3.2.2).

    Stretched as Llama 3.1 does (``apply_scaling`` in Meta's reference): wavelengths that fitted ``high_freq_factor``
    times into the original context stay, those that did not fit in ``low_freq_factor`` times grow by ``factor``, and
    in between the two are blended.
    """
    frequencies = [shape.rope_theta ** (-2 * pair / shape.head_width) for pair in range(shape.head_width // 2)]
    scaling = shape.rope_scaling
    if scaling is None:
        return frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    stretched = []
    for frequency in frequencies:
        fits = scaling.original_positions * frequency / (2 * math.pi)
        kept = min(1.0, max(0.0, (fits - low) / (high - low)))
        stretched.append(frequency * (kept + (1 - kept) / scaling.factor))
    return stretched


def rope_turns(shape: Shape, positions: int, device: str) -> torch.Tensor:
    """For each position and pair the complex number that turns it; angles in float64, then rounded."""
    import torch

    positions_S = torch.arange(positions, dtype=torch.float64, device=device)
    angles = torch.outer(positions_S, torch.tensor(rope_frequencies(shape), dtype=torch.float64, device=device))
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
