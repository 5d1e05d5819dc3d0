"""The stems of encoders: what makes a transformer's first activations out of text, an image or speech.

Each is named after the family whose stem it is. All weighted sums are plain matrix products: an image's patches are
rows of one, and so are the windows of neighbouring frames that a convolution slides over speech.

Letters of the shapes: B inputs of a batch, T positions of the transformer, D its width, V vocabulary; C colours, H and
W pixels, P patches; M mel bins, F frames; K and N what a product takes and gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from kernels._encoder_parts import Draw, Trace

if TYPE_CHECKING:
    import torch

COLOURS = 3
TAPS = 3  # frames that each of Whisper's convolutions sees at once
FRAME_S = 0.010  # from one frame to the next (Radford et al. 2022, arXiv 2212.04356, section 2.2)

HIDDEN = -1  # the point of a trace between Whisper's two convolutions


# ---------------------------------------------------------------- text


@dataclass(frozen=True)
class Roberta:
    """Text: a token's row of one table and its position's row of another, added and normalised.

    Liu et al. 2019, arXiv 1907.11692, on Devlin et al. 2018, arXiv 1810.04805. The row that all tokens of one segment
    add is part of the positions' table here. No text is padded.
    """

    vocabulary: int
    tokens: int

    item_unit: ClassVar[str] = "token"
    norms_first: ClassVar[bool] = False  # each half-layer's sum is normalised, not what it reads
    key_bias: ClassVar[bool] = True

    @property
    def positions(self) -> int:
        return self.tokens

    @property
    def items(self) -> int:
        return self.tokens

    def streamed_parameters(self, width: int) -> int:
        """Those that every forward reads whole: no table of tokens, of which it looks up some rows."""
        return self.tokens * width + 2 * width

    def table_parameters(self, width: int) -> int:
        return self.vocabulary * width

    def flops(self, width: int) -> int:
        return 0

    def input_bytes(self, item_bytes: int) -> int:
        return 8 * self.tokens

    def widest(self, width: int) -> int:
        """Elements of the stem's activations together."""
        return 2 * self.tokens * width

    def stem(self, width: int, eps: float, draw: Draw) -> RobertaStem:
        return RobertaStem(self, width, eps, draw)


class RobertaStem:
    def __init__(self, facts: Roberta, width: int, eps: float, draw: Draw) -> None:
        self.facts = facts
        self.embedding_VD = draw.normal(facts.vocabulary, width)
        self.positions_TD = draw.normal(facts.tokens, width)
        self.norm = draw.norm(width, eps)
        self._draw = draw

    def random_inputs(self, batch: int) -> torch.Tensor:
        return self._draw.tokens(self.facts.vocabulary, batch, self.facts.tokens)

    def __call__(self, tokens_BT: torch.Tensor, trace: Trace) -> torch.Tensor:
        import torch

        return self.norm(torch.nn.functional.embedding(tokens_BT, self.embedding_VD).add_(self.positions_TD))


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class Vit:
    """An image: a linear product of each square patch, behind a class token; positions are added to all of them.

    Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1.
    """

    side: int  # pixels
    patch: int  # pixels of a patch's side

    item_unit: ClassVar[str] = "image"
    norms_first: ClassVar[bool] = True
    key_bias: ClassVar[bool] = True
    items: ClassVar[int] = 1

    @property
    def patches(self) -> int:
        return (self.side // self.patch) ** 2

    @property
    def positions(self) -> int:
        return 1 + self.patches

    @property
    def patch_elements(self) -> int:
        return COLOURS * self.patch**2

    def streamed_parameters(self, width: int) -> int:
        return (self.patch_elements + 1) * width + width + self.positions * width

    def table_parameters(self, width: int) -> int:
        return 0

    def flops(self, width: int) -> int:
        return 2 * self.patches * self.patch_elements * width

    def input_bytes(self, item_bytes: int) -> int:
        return COLOURS * self.side**2 * item_bytes

    def widest(self, width: int) -> int:
        return self.patches * self.patch_elements + 2 * self.positions * width

    def stem(self, width: int, eps: float, draw: Draw) -> VitStem:
        return VitStem(self, width, draw)


class VitStem:
    def __init__(self, facts: Vit, width: int, draw: Draw) -> None:
        self.facts = facts
        self.patches = draw.linear(width, facts.patch_elements)  # columns: colour, then row, then column of a patch
        self.class_D = draw.normal(width)
        self.positions_TD = draw.normal(facts.positions, width)
        self._draw = draw

    def random_inputs(self, batch: int) -> torch.Tensor:
        return self._draw.normal(batch, COLOURS, self.facts.side, self.facts.side)

    def __call__(self, images_BCHW: torch.Tensor, trace: Trace) -> torch.Tensor:
        import torch

        x_BPD = self.patches(self._patches(images_BCHW))
        class_B1D = self.class_D.expand(len(x_BPD), 1, -1)
        return torch.cat([class_B1D, x_BPD], dim=1).add_(self.positions_TD)

    def _patches(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, P, K]: row after row of patches."""
        size = self.facts.patch
        # B, C, patches down, patches across, rows, columns
        tiles = images_BCHW.unfold(2, size, size).unfold(3, size, size)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


# ---------------------------------------------------------------- speech


@dataclass(frozen=True)
class Whisper:
    """Speech: two convolutions over a log-mel spectrogram's frames, the second of stride 2, each through GELU.

    Radford et al. 2022, arXiv 2212.04356, section 2.2. Whisper's positions are fixed sines and cosines, ours are random
    numbers: to the work a table is a table.
    """

    mel_bins: int
    frames: int

    item_unit: ClassVar[str] = "window"
    norms_first: ClassVar[bool] = True
    key_bias: ClassVar[bool] = False
    items: ClassVar[int] = 1

    @property
    def positions(self) -> int:
        return self.frames // 2

    @property
    def window_s(self) -> float:
        """Of speech in one window."""
        return self.frames * FRAME_S

    def streamed_parameters(self, width: int) -> int:
        return (TAPS * self.mel_bins + 1) * width + (TAPS * width + 1) * width + self.positions * width

    def table_parameters(self, width: int) -> int:
        return 0

    def flops(self, width: int) -> int:
        return 2 * TAPS * width * (self.frames * self.mel_bins + self.positions * width)

    def input_bytes(self, item_bytes: int) -> int:
        return self.mel_bins * self.frames * item_bytes

    def widest(self, width: int) -> int:
        return self.frames * ((1 + TAPS) * self.mel_bins + 2 * width) + self.positions * (TAPS + 1) * width

    def stem(self, width: int, eps: float, draw: Draw) -> WhisperStem:
        return WhisperStem(self, width, draw)


class WhisperStem:
    def __init__(self, facts: Whisper, width: int, draw: Draw) -> None:
        self.facts = facts
        self.convolution_1 = draw.linear(width, TAPS * facts.mel_bins, gelu=True)  # columns: tap, then mel bin
        self.convolution_2 = draw.linear(width, TAPS * width, gelu=True)  # columns: tap, then channel
        self.positions_TD = draw.normal(facts.positions, width)
        self._draw = draw

    def random_inputs(self, batch: int) -> torch.Tensor:
        return self._draw.normal(batch, self.facts.mel_bins, self.facts.frames)

    def __call__(self, mel_BMF: torch.Tensor, trace: Trace) -> torch.Tensor:
        hidden_BFD = self.convolution_1(_windows(mel_BMF.transpose(1, 2), stride=1))
        trace.keep(HIDDEN, hidden_BFD)
        return self.convolution_2(_windows(hidden_BFD, stride=2)).add_(self.positions_TD)


def _windows(x_BFN: torch.Tensor, stride: int) -> torch.Tensor:
    """[B, F/stride, K]: the frame before, the frame and the frame after, zeros beyond the ends."""
    import torch

    padded_BFN = torch.nn.functional.pad(x_BFN, (0, 0, 1, 1)).contiguous()
    # Neighbouring frames lie one behind the other, so that a window is a view; but no product takes rows that overlap.
    return padded_BFN.unfold(1, TAPS, stride).transpose(2, 3).flatten(2).contiguous()


Facts: TypeAlias = "Roberta | Vit | Whisper"
Stem: TypeAlias = "RobertaStem | VitStem | WhisperStem"
