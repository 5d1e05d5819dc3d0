"""``encode``: a batch of text, images or speech through a transformer encoder, to its last hidden states.

All that encoders are used for starts from these: search and classification of documents, triage of X-ray pictures and
of traffic cameras, the first half of transcription. A launch takes the same random batch again: texts of full length,
images of one size, windows of 30 s of speech. Roofs: the FLOP/s of a large batch, the bytes of a small one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.device.base import Device
from bench.kernel import About, Case, Kernel
from bench.spec import axis, option
from bench.types import Check, DeviceKind, Measurement, Metric, Work
from kernels._encoder import SHAPES, TINY, Encoder, forward_work
from kernels._encoder_parts import DTYPES, ITEM_BYTES, Trace
from kernels._encoder_reference import Reference, memory_bytes
from kernels._encoder_stems import Whisper

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EncodeParams:
    model: str = axis(choices=tuple(SHAPES))
    batch: int = axis(prefix="b")
    dtype: str = option("bf16", choices=DTYPES)
    mode: str = option("eager", choices=("eager", "graph", "compiled"))

    @property
    def work(self) -> Work:
        return forward_work(SHAPES[self.model], self.batch, ITEM_BYTES[self.dtype])


class EncodeCase(Case):
    def __init__(self, params: EncodeParams, device: Device, seed: int) -> None:
        import torch

        shape = SHAPES[params.model]
        self.work = params.work
        self.model = Encoder(shape, params.dtype, device.torch_device, seed)
        self._device = device
        is_compiled = params.mode == "compiled"
        # Tuned: torch chose among kernels by timing them; another process may choose others, which add up otherwise.
        self._is_tuned = is_compiled and device.info.kind == "cuda"
        self._captures = params.mode == "graph" or self._is_tuned
        if is_compiled:
            self.model.compile()
        self._reference = Reference(self.model)
        self._inputs = self.model.stem.random_inputs(params.batch)
        self._out_BTD = torch.empty(
            params.batch, shape.positions, shape.width, dtype=self.model.dtype, device=device.torch_device
        )
        self._perform = self._performing(Trace())

    def launch(self) -> None:
        self._perform()

    def _performing(self, trace: Trace) -> Callable[[], None]:
        """What encodes the batch when called, and leaves a trace."""
        encode = functools.partial(self._encode, trace)
        return self._device.captured([encode])[0] if self._captures else encode

    def _encode(self, trace: Trace) -> None:
        import torch

        with torch.inference_mode():
            self._out_BTD.copy_(self.model.forward(self._inputs, trace))

    def check(self) -> Check:
        """A traced run is held against float64; a launch, which keeps no activations, has to equal it bit by bit."""
        trace = self._reference.new_trace()
        traced_BTD = self._output_of(self._performing(trace)).clone()
        check = self._reference.check(trace, self._inputs, traced_BTD)
        if self._is_tuned:
            check = dataclasses.replace(check, output=None)
        if not self._output_of(self.launch).equal(traced_BTD):
            return dataclasses.replace(check, error=math.inf, detail="a launch differs from the traced run")
        return check

    def _output_of(self, perform: Callable[[], None]) -> torch.Tensor:
        self._out_BTD.fill_(float("nan"))
        perform()
        self._device.synchronize()
        return self._out_BTD

    def metrics(self, measurement: Measurement) -> list[Metric]:
        """How long a batch takes; of speech also the seconds of it encoded in a second."""
        batch_s = statistics.median(measurement.elapsed_ns) * 1e-9
        figures = [Metric("batch_s", batch_s, "s", "lower")]
        if isinstance(self.model.shape.stem, Whisper):
            speech_s = len(self._inputs) * self.model.shape.stem.window_s
            figures.append(Metric("rtfx", speech_s / batch_s, "1", "higher"))
        return figures

    def close(self) -> None:
        del self._perform, self.model, self._reference, self._inputs, self._out_BTD


class EncodeKernel(Kernel[EncodeParams]):
    name = "encode"
    version = 1
    summary = "text, images and speech through a transformer encoder: RoBERTa, ViT and Whisper, random weights"
    about = About(
        stands_for=(
            "The encoders behind search and classification of Vietnamese documents (PhoBERT-base), imaging in health, "
            "factories and traffic (ViT-B/16), and transcription (the encoder half of Whisper), as a service runs "
            "them: whole batches, from token ids, pixels or mel spectrograms to every position's last hidden state."
        ),
        parameters={
            "model": (
                "The published shape: phobert-base (arXiv 2003.00744; 256 tokens), vit-b-16 (arXiv 2010.11929; 224 x "
                "224 pixels), whisper-base and whisper-large-v3 (arXiv 2212.04356; 3000 frames, 30 s). The three tiny "
                "shapes are for tests and probes."
            ),
            "batch": "Texts, images or windows of speech that go through together.",
            "dtype": "Of weights and activations; sums are accumulated in fp32.",
            "mode": (
                "eager: Python starts each operation. graph: the whole forward is one CUDA graph, as servers do for "
                "small batches, whose operations are shorter than Python takes to start them. compiled: torch compiles "
                "the half-layers, and on a GPU the forward is then a CUDA graph as well."
            ),
        },
        work=(
            "Items are tokens, images or 30 s windows. FLOPs: 2 for each multiply-add of the matrix products, with "
            "patches, convolutions and the full square of attention among them (arXiv 2204.02311, appendix B); at "
            "ViT-B/16 this is torchvision's published 17.56 G multiply-adds an image, less its 1000-class head. Bytes: "
            "each weight and the inputs read once, the last hidden states written once; no rows of a table of tokens."
        ),
        check=(
            "Link by link against float64: the stem, every half-layer (of a large model one layer, drawn anew) from "
            "the activations that it got, and the output. Tolerance: 4·u·sqrt(R) of the size of what a link added, u "
            "the unit roundoff, R its roundings (Higham and Mary 2019, theorem 2.4). Two inputs of a batch and 64 "
            "positions are sampled. A launch has to equal the traced run bit by bit."
        ),
        pitfalls=(
            "Every text is 256 tokens long: real ones are shorter, and a server that pads them does this work for "
            "nothing. Tokenizer, JPEG decoding, the mel spectrogram and the decoder half of Whisper are left out. On "
            "a GPU a small batch in eager mode measures Python: see mode=graph. In bf16 on a CPU without AMX attention "
            "is two products and a softmax for each block of queries; elsewhere it is torch's fused operator."
        ),
    )
    params_type = EncodeParams
    catalogue = (
        *(f"encode/{model}/b1" for model in TINY.values()),
        *(f"encode/phobert-base/b{batch}" for batch in (1, 8, 32, 128)),
        *(f"encode/vit-b-16/b{batch}" for batch in (1, 8, 32, 128)),
        *(f"encode/whisper-base/b{batch}" for batch in (1, 8, 32)),
        *(f"encode/whisper-large-v3/b{batch}" for batch in (1, 8, 32)),
        *(f"encode/{model}/b1@mode=graph" for model in ("phobert-base", "vit-b-16", "whisper-base")),
        *(f"encode/{model}/b8@mode=graph" for model in ("phobert-base", "vit-b-16")),
        *(f"encode/{model}/b32@mode=compiled" for model in ("phobert-base", "vit-b-16", "whisper-base")),
    )

    def prepare(self, params: EncodeParams, device: Device, seed: int) -> Case:
        return EncodeCase(params, device, seed)

    def roofs(self, params: EncodeParams, kind: DeviceKind) -> Sequence[str]:
        return (f"roof/compute/{params.dtype}", "roof/memory/read")

    def work(self, params: EncodeParams) -> Work:
        return params.work

    def probe(self, params: EncodeParams) -> EncodeParams:
        return dataclasses.replace(params, model=TINY[type(SHAPES[params.model].stem)], batch=1)

    def memory_bytes(self, params: EncodeParams) -> int:
        return memory_bytes(SHAPES[params.model], params.batch, ITEM_BYTES[params.dtype])


KERNEL = EncodeKernel()
