"""Tensor parallelism: two real processes are together the model that one is, and a wrong shard is found."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bench import registry
from bench.device.cpu import CpuDevice
from bench.errors import Unsupported, UsageError
from bench.ready import prepared
from bench.spec import parse_params
from bench.types import Work
from kernels import _ranks, decode
from kernels._decoder_reference import memory_bytes
from kernels._decoder_shape import SHAPES, forward_work
from kernels._decoder_sharded import Reduced, ShardedDecoder, shard, shard_memory_bytes
from kernels._mlp import Mlp
from kernels.decode import KERNEL, DecodeCase, DecodeParams, RankedDecodeCase, decode_part
from tests.conftest import prepare


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    _ranks.end_ranks()


def opened(options: str, device: Any, make: Any = decode_part) -> contextlib.closing[RankedDecodeCase]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "decode_part", make)
        case = prepare(KERNEL, f"decode/tiny/b2/ctx32@{options}", device)
    assert isinstance(case, RankedDecodeCase)
    return contextlib.closing(case)


# ---------------------------------------------------------------- faults of the other rank


class Broken(Reduced):
    """A rank's product of which something is not as its weights are."""

    def __init__(self, reduced: Any, fault: str) -> None:
        super().__init__(reduced.linear)
        self.fault = fault

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.fault == "head":  # the first of its two heads has nothing to say
            x = torch.cat([torch.zeros_like(x[..., :16]), x[..., 16:]], dim=-1)
        if self.fault == "silent":  # it adds nothing to the sum
            x = torch.zeros_like(x)
        y = self.linear(x)
        if self.fault != "alone":
            self._all_reduce(y)
        else:  # it keeps the others' part to itself
            self._all_reduce(y.clone())
        return y


def broken_part(where: str, fault: str, *arguments: Any) -> DecodeCase:
    part = decode_part(*arguments)
    model = part.model
    assert isinstance(model, ShardedDecoder)
    if model.rank == 1:
        layer = model.layers[1]
        if where == "out":
            model.layers[1] = dataclasses.replace(layer, out=Broken(layer.out, fault))
        else:
            assert isinstance(layer.mlp, Mlp)
            layer.mlp.down = Broken(layer.mlp.down, fault)
    return part


def no_head(*arguments: Any) -> DecodeCase:
    return broken_part("out", "head", *arguments)


def silent_attention(*arguments: Any) -> DecodeCase:
    return broken_part("out", "silent", *arguments)


def silent_mlp(*arguments: Any) -> DecodeCase:
    return broken_part("down", "silent", *arguments)


def unsummed_mlp(*arguments: Any) -> DecodeCase:
    return broken_part("down", "alone", *arguments)


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("options", ["tp=2", "dtype=fp32,tp=2", "weights=int8,tp=2"])
def test_two_ranks_agree_with_float64_before_and_after_launches(cpu_device: CpuDevice, options: str) -> None:
    with opened(f"steps=3,{options}", cpu_device) as case:
        for launches in (0, 3):
            for _ in range(launches):
                case.launch()
            check = case.check()
            assert check.ok, check
            assert check.error > 0


def test_two_ranks_are_together_the_model_that_one_is(cpu_device: CpuDevice) -> None:
    name = "decode/tiny/b2/ctx32@steps=4,dtype=fp32"
    with (
        contextlib.closing(prepare(KERNEL, name, cpu_device)) as one,
        opened("steps=4,dtype=fp32,tp=2", cpu_device) as two,
    ):
        assert isinstance(one, DecodeCase)
        assert isinstance(two.part, DecodeCase)
        assert one.check().ok
        assert two.check().ok
        assert two.part.model.shape.heads == one.model.shape.heads // 2
        assert two.part._chosen_BT.equal(one._chosen_BT)
        deviation = (two.part._logits_BV - one._logits_BV).abs().max() / one._logits_BV.abs().max()
        assert deviation < 1e-5
        for (k_one, _), (k_two, _) in zip(one._cache, two.part._cache, strict=True):
            torch.testing.assert_close(k_two, k_one[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [no_head, silent_attention, silent_mlp, unsummed_mlp])
def test_a_wrong_shard_of_the_other_rank_fails(cpu_device: CpuDevice, make: Any) -> None:
    with opened("steps=3,tp=2", cpu_device, make) as case:
        assert not case.check().ok


def test_graphs_of_several_ranks_are_unsupported_on_a_cpu(cpu_device: CpuDevice) -> None:
    workload = registry.resolve("decode/tiny/b1/ctx8@steps=1,mode=graph,tp=2")
    with pytest.raises(Unsupported, match="a CPU has none"), prepared(workload, cpu_device, 60.0):
        pass


def test_marks_and_metrics_are_those_of_the_timed_rank(cpu_device: CpuDevice) -> None:
    with opened("steps=3,tp=2", cpu_device) as case:
        case.launch()
        cpu_device.start()
        case.launch()
        cpu_device.stop()
        assert [mark.name for mark in cpu_device.take_marks()] == ["step"] * 3


def test_a_rank_draws_the_cache_of_all_a_piece_at_a_time() -> None:
    drawn: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Watched(ShardedDecoder):
        def __init__(self) -> None:
            self.whole, self.shape = SHAPES["tiny"], shard(SHAPES["tiny"], 2)
            self.rank, self.world, self.dtype, self.device = 1, 2, torch.float32, "cpu"
            self._torch, self._generator = torch, torch.Generator().manual_seed(0)

        def _own(self, x: torch.Tensor, dim: int) -> torch.Tensor:
            nonlocal most
            drawn.append(weakref.ref(x))
            most = max(most, sum(one() is not None for one in drawn))
            return super()._own(x, dim)

    cache = Watched().new_cache(1, 8)
    assert len(drawn) == 2 * len(cache) > 2
    assert most == 1


def test_memory_has_room_for_one_whole_layer_of_keys_and_values() -> None:
    name = "llama-3.1-70b"

    def beside_its_own(batch: int) -> int:
        return shard_memory_bytes(name, 8, batch, 8192, 2) - memory_bytes(shard(SHAPES[name], 8), batch, 1, 8192, 2)

    assert beside_its_own(64) - beside_its_own(1) >= 63 * 8192 * 2 * 8 * 128 * 2


# ---------------------------------------------------------------- work, what is refused


@pytest.mark.parametrize(("model", "world"), [("tiny", 2), ("llama-3.1-70b", 2), ("llama-3.1-70b", 8)])
def test_the_work_of_all_ranks_is_that_of_the_model(model: str, world: int) -> None:
    shape = SHAPES[model]

    def work(of: Any) -> Work:
        return forward_work(of, 3, range(100, 104), 1, 2)

    whole, part = work(shape), work(shard(shape, world))
    assert part.items == whole.items == 12
    assert part.flops is not None and part.bytes_moved is not None and whole.bytes_moved is not None
    assert world * part.flops == whole.flops
    norms = (2 * shape.layers + 1) * shape.width  # which each rank has
    assert world * part.bytes_moved == whole.bytes_moved + (world - 1) * 4 * 2 * norms


def test_devices_probe_and_memory() -> None:
    params = parse_params("decode", DecodeParams, "decode/llama-3.1-70b/b1/ctx512@tp=8")
    assert KERNEL.devices(params) == 8
    assert KERNEL.devices(dataclasses.replace(params, tp=1)) == 1
    probe = KERNEL.probe(params)
    assert (probe.model, probe.tp) == ("tiny", 2)
    assert 141e9 / 8 < KERNEL.memory_bytes(params) < 80e9 < KERNEL.memory_bytes(dataclasses.replace(params, tp=1))


@pytest.mark.parametrize(
    "name",
    ["tiny/b1/ctx8@tp=4", "tiny/b1/ctx8@tp=0", "tiny-moe/b1/ctx8@tp=2", "tiny/b1/ctx8@mode=compiled,tp=2"],
)
def test_what_has_no_shards_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse_params("decode", DecodeParams, f"decode/{name}")


# ---------------------------------------------------------------- on GPUs


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_two_gpus_agree_with_float64(cuda_device: Any, mode: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    cuda_device.indices = (0, 1)
    with opened(f"steps=3,mode={mode},tp=2", cuda_device) as case:
        for launches in (0, 40):
            for _ in range(launches):
                case.launch()
            check = case.check()
            assert check.ok, check
