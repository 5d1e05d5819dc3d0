"""Writes a decoder of random bf16 weights for llama.cpp: ``python -m tests.peers.gguf_file MODEL PATH``.

It runs in llama.cpp's environment, which has the package ``gguf``. Tensors and keys are those that llama.cpp's own
converter gives a Llama; there is no tokeniser, for nothing is written or read as text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernels._decoder_shape import SHAPES, Shape, rope_frequencies


def matrices(shape: Shape) -> Iterator[tuple[str, tuple[int, int]]]:
    """The names of the matrices, and their rows and columns."""
    query_width, kv_width = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    yield "token_embd", (shape.vocabulary, shape.width)
    if not shape.tied:
        yield "output", (shape.vocabulary, shape.width)
    for index in range(shape.layers):
        for name, sizes in (
            ("attn_q", (query_width, shape.width)),
            ("attn_k", (kv_width, shape.width)),
            ("attn_v", (kv_width, shape.width)),
            ("attn_output", (shape.width, query_width)),
            ("ffn_gate", (shape.mlp_width, shape.width)),
            ("ffn_up", (shape.mlp_width, shape.width)),
            ("ffn_down", (shape.width, shape.mlp_width)),
        ):
            yield f"blk.{index}.{name}", sizes


def norms(shape: Shape) -> list[str]:
    layers = (f"blk.{index}.{name}" for index in range(shape.layers) for name in ("attn_norm", "ffn_norm"))
    return ["output_norm", *layers]


def rope_factors(shape: Shape) -> list[float]:
    """What llama.cpp divides each pair's frequency by, where Llama 3.1 stretches it."""
    plain = [(shape.rope_theta or 0.0) ** (-2 * pair / shape.head_width) for pair in range(shape.head_width // 2)]
    return [before / after for before, after in zip(plain, rope_frequencies(shape), strict=True)]


def write(model: str, path: Path) -> None:
    import gguf  # type: ignore[import-not-found, unused-ignore]
    import numpy as np

    shape, random = SHAPES[model], np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name in norms(shape):
        writer.add_tensor(f"{name}.weight", random.uniform(0.5, 1.5, shape.width).astype(np.float32))
    if shape.rope_scaling is not None:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors(shape), dtype=np.float32))
    for name, sizes in matrices(shape):
        writer.add_tensor(f"{name}.weight", _bf16(random, sizes), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _bf16(random: Any, sizes: tuple[int, int]) -> Any:
    """Normal numbers of variance 1/columns, cut to their upper halves: the bytes of a matrix of bf16."""
    import numpy as np

    normals = random.standard_normal(sizes, dtype=np.float32) * np.float32(sizes[1] ** -0.5)
    return (normals.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
