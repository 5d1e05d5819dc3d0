"""``Shape``: what there is to know of a published decoder but its weights, and the work of a forward pass.

The facts are those of the models' own configurations; nothing else of theirs is used. Letters of the shapes: B
sequences, T tokens of this call, S positions in the cache, D width, H query heads, G key-value heads, E width of a
head, F width of the MLP, V vocabulary, X experts, k of them for a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.errors import UsageError
from bench.types import Work
from kernels._linear import stored_bytes

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
DTYPES = tuple(ITEM_BYTES)


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
    rope_theta: float | None  # None: no rotations, but ALiBi
    rope_scaling: RopeScaling | None
    tied: bool  # the embedding table is the output head as well
    norm_eps: float = 1e-5
    centred: bool = False  # LayerNorm, else RMSNorm
    gated: bool = True  # SwiGLU, else GELU
    biases: bool = False  # behind every matrix of a layer, and in its norms
    experts: int = 1
    experts_per_token: int = 1

    @property
    def mlp_parameters(self) -> int:
        """The matrices of an MLP; where there are several, of one expert."""
        return (3 if self.gated else 2) * self.width * self.mlp_width

    @property
    def attention_parameters(self) -> int:
        return self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)

    @property
    def router_parameters(self) -> int:
        return self.width * self.experts if self.experts > 1 else 0

    @property
    def layer_matrix_parameters(self) -> int:
        """Weights of a layer that a token is multiplied with."""
        return self.attention_parameters + self.router_parameters + self.experts_per_token * self.mlp_parameters

    @property
    def single_matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of a layer's fused matrices; those of several experts are stored in their own way."""
        query_width = self.heads * self.head_width
        up_rows = (2 if self.gated else 1) * self.mlp_width
        attention = [(query_width + 2 * self.kv_heads * self.head_width, self.width), (self.width, query_width)]
        return attention + ([(up_rows, self.width), (self.width, self.mlp_width)] if self.experts == 1 else [])

    @property
    def norm_parameters(self) -> int:
        return (2 * self.layers + 1) * self.width * (2 if self.biases else 1)

    @property
    def bias_parameters(self) -> int:
        """Behind the matrices of all layers."""
        attention = (self.heads + 2 * self.kv_heads) * self.head_width + self.width
        mlp = (2 if self.gated else 1) * self.mlp_width + self.width
        return self.layers * (attention + mlp) if self.biases else 0

    @property
    def parameters(self) -> int:
        """All of them."""
        table = self.vocabulary * self.width
        unread = self.layers * (self.experts - self.experts_per_token) * self.mlp_parameters
        return round(self.read_parameters(1)) + unread + (0 if self.tied else table)

    def read_parameters(self, tokens: int) -> float:
        """Weights that a forward over so many tokens reads: layers, norms and head, and not an untied embedding table.

        Of the experts, those that a token has chosen (sparse MBU; Jiang et al. 2024, MoE-CAP, arXiv 2412.07067,
        section 4). One token takes k of X. What n tokens share depends on the router: X·(1 − (1 − k/X)ⁿ) of them are
        read on average where all are equally likely and choices independent, as those of random weights nearly are.
        """
        experts = self.experts * (1 - (1 - self.experts_per_token / self.experts) ** tokens)
        layer = self.attention_parameters + self.router_parameters + experts * self.mlp_parameters
        return self.layers * layer + self.norm_parameters + self.bias_parameters + self.vocabulary * self.width


_LLAMA_3_1 = RopeScaling(8.0, 8192)

# From each model's config.json on huggingface.co. Those called tiny are nobody's: small, with everything that the
# others have.
SHAPES = {
    "tiny": Shape(2, 64, 4, 2, 16, 160, 512, 4096, 1e4, RopeScaling(8.0, 64), tied=False),
    # HuggingFaceTB/SmolLM2-135M
    "smollm2-135m": Shape(30, 576, 9, 3, 64, 1536, 49_152, 8192, 1e5, None, tied=True),
    # meta-llama/Llama-3.2-1B
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 64, 8192, 128_256, 131_072, 5e5, RopeScaling(32.0, 8192), tied=True),
    # meta-llama/Llama-3.1-8B
    "llama-3.1-8b": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, 131_072, 5e5, _LLAMA_3_1, tied=False),
    # meta-llama/Llama-3.1-70B
    "llama-3.1-70b": Shape(80, 8192, 64, 8, 128, 28_672, 128_256, 131_072, 5e5, _LLAMA_3_1, tied=False),
    # Viet-Mistral/Vistral-7B-Chat: Mistral-7B with a Vietnamese vocabulary. It attends to a window of 4096 positions;
    # up to there that is plain causal attention, and further this shape does not go.
    "vistral-7b": Shape(32, 4096, 32, 8, 128, 14_336, 38_369, 4096, 1e4, None, tied=False),
    # vinai/PhoGPT-4B: of the MPT family, with biases (no_bias: false)
    "phogpt-4b": Shape(
        32, 3072, 24, 24, 128, 12_288, 20_480, 8192, None, None, tied=True, centred=True, gated=False, biases=True
    ),
    "tiny-alibi": Shape(2, 96, 6, 6, 16, 160, 512, 4096, None, None, tied=True, centred=True, gated=False, biases=True),
    # mistralai/Mixtral-8x7B-v0.1
    "mixtral-8x7b": Shape(
        32, 4096, 32, 8, 128, 14_336, 32_000, 32_768, 1e6, None, tied=False, experts=8, experts_per_token=2
    ),
    "tiny-moe": Shape(2, 64, 4, 2, 16, 96, 512, 4096, 1e4, None, tied=False, experts=8, experts_per_token=2),
}


def tiny(model: str) -> str:
    """The small model of the same family."""
    shape = SHAPES[model]
    if shape.experts > 1:
        return "tiny-moe"
    return "tiny" if shape.rope_theta else "tiny-alibi"


def require_positions(model: str, positions: int) -> None:
    """
    Raises:
        UsageError: the model was not made for so long a context.
    """
    if positions > SHAPES[model].positions:
        raise UsageError(f"{model} has {SHAPES[model].positions} positions, not {positions}", "Ask for fewer")


def require_format(model: str, weights: str) -> None:
    """
    Raises:
        UsageError: torch multiplies the weights of experts in one grouped product, which takes dense ones only.
    """
    if weights != "dense" and SHAPES[model].experts > 1:
        raise UsageError(f"the experts of {model} are dense, not {weights}", "Leave weights out")


def forward_work(shape: Shape, batch: int, starts: range, tokens: int, item_bytes: int, weights: str = "dense") -> Work:
    """The work of one forward over ``tokens`` tokens a sequence at each of these start positions.

    FLOPs: 2 for each matrix weight and token, of the experts only the token's own, the head only at the last token,
    for its logits alone are computed (Kaplan et al. 2020, arXiv 2001.08361, table 1); attention 4·H·E for each query
    and each position it may see, so half a square when T = S (Dao 2023, arXiv 2307.08691, section 4.1). Norms, biases,
    rotations and activations count nothing.

    Bytes: what no implementation can avoid: each weight that the tokens need read once a forward, the cached keys and
    values of earlier positions read, the new ones written (Pope et al. 2022, arXiv 2211.05102, section 2).
    Matrices count as the format ``weights`` stores them.
    """
    forwards = len(starts)
    per_token = 2 * shape.layers * shape.layer_matrix_parameters
    head = 2 * shape.vocabulary * shape.width
    visible = sum(tokens * start + tokens * (tokens + 1) // 2 for start in starts)  # summed over the queries
    attention = 4 * shape.layers * shape.heads * shape.head_width * visible
    cached = sum(start + tokens for start in starts) * 2 * shape.layers * shape.kv_heads * shape.head_width
    dense_bytes = round((forwards * shape.read_parameters(batch * tokens) + batch * cached) * item_bytes)
    return Work(
        unit="token/s",
        flops=batch * (forwards * (tokens * per_token + head) + attention),
        bytes_moved=dense_bytes - forwards * _saved_bytes(shape, weights, item_bytes),
        items=forwards * batch * tokens,
        item_unit="token",
    )


def _saved_bytes(shape: Shape, weights: str, item_bytes: int) -> int:
    """By a format of weights, in each forward: of the head and of the matrices that are not experts'."""
    matrices = shape.layers * shape.single_matrices + [(shape.vocabulary, shape.width)]
    return sum(
        rows * columns * item_bytes - stored_bytes(weights, rows, columns, item_bytes) for rows, columns in matrices
    )


def rope_frequencies(shape: Shape) -> list[float]:
    """Radians per position of each pair of a head's elements (Su et al. 2021, arXiv 2104.09864, section 3.2.2).

    Stretched as Llama 3.1 does (``apply_scaling`` in Meta's reference): wavelengths that fitted ``high_freq_factor``
    times into the original context stay, those that did not fit in ``low_freq_factor`` times grow by ``factor``, and
    in between the two are blended. With ALiBi there are none.
    """
    theta = shape.rope_theta
    if theta is None:
        return []
    frequencies: list[float] = [theta ** (-2 * pair / shape.head_width) for pair in range(shape.head_width // 2)]
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


def alibi_slopes(heads: int) -> list[float]:
    """What each head takes off a score for every position of distance (Press et al. 2022, arXiv 2108.12409, section 3).

    A geometric sequence down to 2⁻⁸. For heads that are no power of two MPT takes the sequence of the next one, first
    every second slope from its second on, then the others (``gen_slopes`` in mosaicml/llm-foundry).
    """
    power = 1 << (heads - 1).bit_length()
    slopes: list[float] = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes if power == heads else [*slopes[1::2], *slopes[::2]][:heads]
