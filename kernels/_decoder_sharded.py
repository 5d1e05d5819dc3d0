"""``ShardedDecoder``: one rank's share of a decoder that several devices compute together, by tensor parallelism.

As in Megatron-LM (Shoeybi et al. 2019, arXiv 1909.08053, section 3): each rank has some of the heads with their keys
and values, some of the MLP's hidden elements, and some rows of the output head. The outputs of attention and of the MLP
are sums over the ranks, so each half-layer ends with an all-reduce; the logits are gathered. Embeddings and norms are
on every rank. Each draws all weights and keeps its own, so that the ranks together are the model that one would be.

A check gathers what it looks at from all ranks, and each of them holds the whole against float64.
"""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from bench.errors import UsageError
from bench.types import Check
from kernels._decoder import Decoder, KvCache, Layer, Trace
from kernels._decoder_reference import Reference, memory_bytes
from kernels._decoder_shape import SHAPES, Shape
from kernels._linear import Linear
from kernels._mlp import Matrix, Mlp

if TYPE_CHECKING:
    import torch


def require_shards(model: str, world: int) -> None:
    """
    Raises:
        UsageError: heads, hidden elements or vocabulary do not divide by so many ranks, or nobody has written it.
    """
    shape = SHAPES[model]
    if world < 1 or any(size % world for size in (shape.kv_heads, shape.mlp_width, shape.vocabulary)):
        raise UsageError(f"{model} does not divide into {world} shards", f"It has {shape.kv_heads} key-value heads")
    if world > 1 and (shape.biases or shape.experts > 1):
        raise UsageError(f"{model} has no tensor-parallel form here", "Take one of Llama's family, or tp=1")


def shard(shape: Shape, world: int) -> Shape:
    """What one of the ranks has of the layers and of the output head."""
    return dataclasses.replace(
        shape,
        heads=shape.heads // world,
        kv_heads=shape.kv_heads // world,
        mlp_width=shape.mlp_width // world,
        vocabulary=shape.vocabulary // world,
    )


def shard_memory_bytes(model: str, world: int, batch: int, slots: int, item_bytes: int) -> int:
    """Of one rank at most: its shard, the whole embedding, and a layer's whole matrices, keys and values, and head.

    These are whole where they are drawn, and where a check puts them together from what it has gathered.
    """
    whole, part = SHAPES[model], shard(SHAPES[model], world)
    table, layer = whole.vocabulary * whole.width, whole.layer_matrix_parameters
    cached = 2 * batch * slots * whole.kv_heads * whole.head_width
    shared = (4 * table + 2 * layer + 2 * cached) * item_bytes + 8 * 2 * layer
    return memory_bytes(part, batch, 1, slots, item_bytes) + (shared if world > 1 else 0)


class Reduced(Linear):
    """The product of a rank's columns with its share of the activations, summed over the ranks."""

    def __init__(self, linear: Matrix) -> None:
        import torch.distributed as dist

        self.linear = linear
        self._all_reduce = dist.all_reduce

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        self._all_reduce(y)
        return y

    def dense(self) -> torch.Tensor:
        return self.linear.dense()

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear.seen(x)


class GatheredHead(Linear):
    """Some of the vocabulary's rows; the logits of all are gathered."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear
        self.seen_roundoff = linear.seen_roundoff

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.cat(gathered(self.linear(x)), dim=-1)

    def dense(self) -> torch.Tensor:
        import torch

        return torch.cat(gathered(self.linear.dense()))

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear.seen(x)


class ShardedDecoder(Decoder):
    """One rank's share. ``shape`` is of what the rank computes in a layer, ``whole`` of the model."""

    def __init__(self, whole: Shape, dtype: str, device: str, seed: int, positions: int, weights: str) -> None:
        import torch.distributed as dist

        self.whole = whole
        self.rank: int = dist.get_rank()
        self.world: int = dist.get_world_size()
        super().__init__(whole, dtype, device, seed, positions, weights)
        self.shape = dataclasses.replace(shard(whole, self.world), vocabulary=whole.vocabulary)

    def _matrix(self, weight_NK: torch.Tensor, part: str) -> Matrix:
        if part in ("out", "down"):
            return Reduced(super()._matrix(self._own(weight_NK, 1), part))
        own = [self._own(rows_NK, 0) for rows_NK in weight_NK.split(_stacked_rows(self.whole, part))]
        return super()._matrix(self._torch.cat(own), part)

    def _head(self, weight_VD: torch.Tensor) -> Linear:
        return GatheredHead(super()._head(self._own(weight_VD, 0)))

    def _own(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        return x.chunk(self.world, dim)[self.rank].clone()

    def _random_heads(self, batch: int, slots: int) -> torch.Tensor:
        own, self.shape = self.shape, self.whole
        whole_BGSE = super()._random_heads(batch, slots)
        self.shape = own
        return self._own(whole_BGSE, 1)


def _stacked_rows(shape: Shape, part: str) -> list[int]:
    """The rows of what is stacked in a matrix, each of which divides among the ranks."""
    if part == "qkv":
        return [heads * shape.head_width for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
    return [shape.mlp_width] * (2 if shape.gated else 1)


def gathered(own: torch.Tensor) -> list[torch.Tensor]:
    """This tensor of every rank."""
    import torch
    import torch.distributed as dist

    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # the name in older versions
    all_W = torch.empty((dist.get_world_size() * len(own), *own.shape[1:]), dtype=own.dtype, device=own.device)
    gather(all_W, own.contiguous())
    return list(all_W.chunk(dist.get_world_size()))


class _Whole(Linear):
    """A matrix of which each rank has a part, for the reference to read: a collective of all ranks."""

    def __init__(self, matrix: Matrix, shape: Shape, world: int, part: str) -> None:
        self._matrix, self._part = matrix, part
        self._rows = [rows // world for rows in _stacked_rows(shape, part)]

    def dense(self) -> torch.Tensor:
        import torch

        parts = gathered(self._matrix.dense())
        if self._part in ("out", "down"):
            return torch.cat(parts, dim=1)
        stacked = zip(*(part_NK.split(self._rows) for part_NK in parts), strict=True)
        return torch.cat([rows_NK for one in stacked for rows_NK in one])

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self._matrix.seen(x)


class ShardedReference(Reference):
    """Every rank holds the whole model against float64, in the same order, for what it reads is gathered from all."""

    def __init__(self, model: ShardedDecoder) -> None:
        layers = [_whole_layer(layer, model) for layer in model.layers]
        whole = SimpleNamespace(
            shape=model.whole,
            dtype=model.dtype,
            layers=layers,
            embedding_VD=model.embedding_VD,
            norm=model.norm,
            head=model.head,
        )
        super().__init__(cast(Decoder, whole))
        self._random = random.Random(_common_number(model.device))
        self._world: int = model.world

    def check(
        self,
        trace: Trace,
        tokens_BT: torch.Tensor,
        start: int,
        cache: KvCache,
        logits_BV: torch.Tensor,
        chosen_BT: torch.Tensor | None = None,
    ) -> Check:
        whole = [_whole_heads(own) if 2 * index + 1 in trace else own for index, own in enumerate(cache)]
        return super().check(trace, tokens_BT, start, whole, logits_BV, chosen_BT)

    def _attention_roundings(self, positions: int) -> float:
        return super()._attention_roundings(positions) + self._additions

    def _mlp_roundings(self) -> float:
        return super()._mlp_roundings() + self._additions

    @property
    def _additions(self) -> float:
        """Each rank's part is rounded, as their sum was before, and so is each of the additions."""
        return self._world - 1


def _whole_layer(layer: Layer, model: ShardedDecoder) -> Layer:
    def whole(matrix: Matrix, part: str) -> Matrix:
        return _Whole(matrix, model.whole, model.world, part)

    assert isinstance(layer.mlp, Mlp)
    mlp = Mlp(whole(layer.mlp.up, "up"), whole(layer.mlp.down, "down"), layer.mlp.gated)
    return dataclasses.replace(layer, qkv=whole(layer.qkv, "qkv"), out=whole(layer.out, "out"), mlp=mlp)


def _whole_heads(own: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    k_BGSE, v_BGSE = (torch.cat(gathered(kv), dim=1) for kv in own)
    return k_BGSE, v_BGSE


def _common_number(device: str) -> int:
    """A random number that rank 0 draws for all, so that they sample the same."""
    import torch
    import torch.distributed as dist

    number = torch.tensor([random.getrandbits(62)], device=device)
    dist.broadcast(number, src=0)
    return int(number)
