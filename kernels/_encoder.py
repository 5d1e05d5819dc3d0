"""A transformer encoder in plain torch: its published shapes, its random weights, its forward pass, its work.

Attention over all positions, then an MLP with GELU, each added to what it read (Vaswani et al. 2017, arXiv 1706.03762,
section 3.1). RoBERTa normalises each sum; ViT and Whisper what attention and MLP read, and once more at the end. The
q, k and v projections are fused into one matrix. The output is the last hidden state at every
position: no pooling, no classes, no decoder.

Letters of the shapes: B inputs of a batch, T positions, D width, H heads, E = D/H width of a head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.types import Work
from kernels._attention import attention_of
from kernels._biased import Biased
from kernels._encoder_parts import Draw, Norm, Trace
from kernels._encoder_stems import Facts, Roberta, Vit, Whisper
from kernels._linear import Linear
from kernels._opaque import hidden

if TYPE_CHECKING:
    import torch

# Standard deviation of the attention scores. At 1 a head would average over nearly all positions and leave next to
# nothing in its output; at 2 it rests on some dozens of them, as trained heads do, and every head counts.
SCORE_SPREAD = 2.0


@dataclass(frozen=True)
class Shape:
    stem: Facts
    layers: int
    width: int
    heads: int
    mlp_width: int
    norm_eps: float

    @property
    def positions(self) -> int:
        return self.stem.positions

    @property
    def layer_matrix_parameters(self) -> int:
        return 4 * self.width**2 + 2 * self.width * self.mlp_width

    @property
    def streamed_parameters(self) -> int:
        """Weights that every forward reads whole: all but a table of tokens."""
        biases = (4 if self.stem.key_bias else 3) * self.width + self.mlp_width + self.width
        last_norm = 2 * self.width if self.stem.norms_first else 0
        layer = self.layer_matrix_parameters + biases + 4 * self.width
        return self.stem.streamed_parameters(self.width) + self.layers * layer + last_norm

    @property
    def parameters(self) -> int:
        return self.streamed_parameters + self.stem.table_parameters(self.width)


# From each model's config.json on huggingface.co. The tiny ones are nobody's: small, with everything that the others
# have.
SHAPES = {
    "tiny-text": Shape(Roberta(512, 48), 2, 64, 4, 160, 1e-5),
    "tiny-image": Shape(Vit(48, 8), 2, 64, 4, 160, 1e-12),
    "tiny-speech": Shape(Whisper(16, 96), 2, 64, 4, 160, 1e-5),
    # vinai/phobert-base (Nguyen and Nguyen 2020, arXiv 2003.00744)
    "phobert-base": Shape(Roberta(64_001, 256), 12, 768, 12, 3072, 1e-5),
    # google/vit-base-patch16-224
    "vit-b-16": Shape(Vit(224, 16), 12, 768, 12, 3072, 1e-12),
    # openai/whisper-base
    "whisper-base": Shape(Whisper(80, 3000), 6, 512, 8, 2048, 1e-5),
    # openai/whisper-large-v3
    "whisper-large-v3": Shape(Whisper(128, 3000), 32, 1280, 20, 5120, 1e-5),
}

TINY: dict[type[Facts], str] = {Roberta: "tiny-text", Vit: "tiny-image", Whisper: "tiny-speech"}


def forward_work(shape: Shape, batch: int, item_bytes: int) -> Work:
    """The work of one forward over a batch.

    FLOPs: 2 for each multiply-add of a matrix product: each matrix weight at each position, the stem's patches or
    convolution windows (zeros beyond the ends counted, as is usual), and 4·D for each query and each position it sees,
    which is all of them (Chowdhery et al. 2022, arXiv 2204.02311, appendix B, without their factor for the backward
    pass). Norms, softmax and activations count nothing.

    Bytes: what no implementation can avoid: each streamed weight and the inputs read once, the last hidden states
    written once. Rows looked up in a table of tokens may repeat, and are left out.
    """
    tokens = batch * shape.positions
    per_token = 2 * shape.layer_matrix_parameters + 4 * shape.width * shape.positions
    moved = shape.streamed_parameters + tokens * shape.width
    return Work(
        unit=f"{shape.stem.item_unit}/s",
        flops=batch * shape.stem.flops(shape.width) + tokens * shape.layers * per_token,
        bytes_moved=moved * item_bytes + batch * shape.stem.input_bytes(item_bytes),
        items=batch * shape.stem.items,
        item_unit=shape.stem.item_unit,
    )


@dataclass(frozen=True)
class Layer:
    qkv: Biased  # rows: H query heads, H key heads, H value heads, of E each
    out: Biased
    attention_norm: Norm
    up: Biased  # and GELU
    down: Biased
    mlp_norm: Norm


class Encoder:
    """The model with random weights, drawn on the device it runs on."""

    def __init__(self, shape: Shape, dtype: str, device: str, seed: int) -> None:
        import torch

        self._torch = torch
        draw = Draw(dtype, device, seed)
        self.shape = shape
        self.dtype = draw.dtype
        self._device = device
        self._attend = attention_of(device, self.dtype)
        self.stem = shape.stem.stem(shape.width, shape.norm_eps, draw)
        self.layers = [self._drawn_layer(draw) for _ in range(shape.layers)]
        self.norm = draw.norm(shape.width, shape.norm_eps) if shape.stem.norms_first else None

    def _drawn_layer(self, draw: Draw) -> Layer:
        width, eps = self.shape.width, self.shape.norm_eps
        qkv_ND, qkv_N = draw.matrix(3 * width, width), draw.bias(3 * width)
        qkv_ND[:width] *= SCORE_SPREAD
        if not self.shape.stem.key_bias:
            qkv_N[width : 2 * width] = 0
        return Layer(
            qkv=Biased(Linear(qkv_ND), qkv_N),
            out=draw.linear(width, width),
            attention_norm=draw.norm(width, eps),
            up=draw.linear(self.shape.mlp_width, width, gelu=True),
            down=draw.linear(width, self.shape.mlp_width),
            mlp_norm=draw.norm(width, eps),
        )

    def compile(self) -> None:
        """From here on half-layers run as torch has compiled them. One compilation serves all layers: they are alike.

        Raises:
            RuntimeError: at the first forward, where torch cannot.
        """
        self._torch._dynamo.reset()  # the models compiled before in this process count towards its limit
        if self._device == "cpu":
            self.layers = [_opaque(layer) for layer in self.layers]
        self._attention = self._torch.compile(self._attention, fullgraph=True)  # type: ignore[method-assign]
        self._mlp = self._torch.compile(self._mlp, fullgraph=True)  # type: ignore[method-assign]

    def forward(self, inputs: torch.Tensor, trace: Trace) -> torch.Tensor:
        """x_BTD after the last layer.

        Point 2l of the trace is what layer l gets, 2l + 1 what its MLP gets, and point 2L what the last layer leaves.
        """
        x_BTD = self.stem(inputs, trace)
        for index, layer in enumerate(self.layers):
            trace.keep(2 * index, x_BTD)
            x_BTD = self._attention(layer, x_BTD)
            trace.keep(2 * index + 1, x_BTD)
            x_BTD = self._mlp(layer, x_BTD)
        trace.keep(2 * len(self.layers), x_BTD)
        return x_BTD if self.norm is None else self.norm(x_BTD)

    def _attention(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        return self._half(layer.attention_norm, lambda x_BTD: self._attended(layer, x_BTD), x_BTD)

    def _mlp(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        return self._half(layer.mlp_norm, lambda x_BTD: layer.down(layer.up(x_BTD)), x_BTD)

    def _half(self, norm: Norm, part: Callable[[torch.Tensor], torch.Tensor], x_BTD: torch.Tensor) -> torch.Tensor:
        # Added in place: what a part returns is its own, and the sum needs no memory of another.
        if self.shape.stem.norms_first:
            return part(norm(x_BTD)).add_(x_BTD)
        return norm(part(x_BTD).add_(x_BTD))

    def _attended(self, layer: Layer, x_BTD: torch.Tensor) -> torch.Tensor:
        batch, positions, width = x_BTD.shape
        qkv = layer.qkv(x_BTD).view(batch, positions, 3, self.shape.heads, -1)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4)
        y_BHTE = self._attend(q_BHTE, k_BHTE, v_BHTE)
        return layer.out(y_BHTE.transpose(1, 2).reshape(batch, positions, width))


def _opaque(layer: Layer) -> Layer:
    """The same layer, its matrices hidden from a compiler."""
    names = ("qkv", "out", "up", "down")
    return dataclasses.replace(layer, **{name: hidden(getattr(layer, name)) for name in names})
