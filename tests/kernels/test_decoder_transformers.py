"""The decoder beside Hugging Face's ``transformers``: the same random weights in both give the same logits."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from kernels._decoder import Decoder
from kernels._decoder_shape import SHAPES, Shape
from kernels._mlp import Experts, Mlp

transformers = pytest.importorskip("transformers", "5", "transformers 5 is not installed")

TINY = SHAPES["tiny"]
State = dict[str, torch.Tensor]


def halves(rows_ND: torch.Tensor, head_width: int) -> torch.Tensor:
    """Rows of heads whose pairs are neighbours, as those libraries want them: first of each pair, then second."""
    return rows_ND.unflatten(0, (-1, head_width // 2, 2)).transpose(1, 2).flatten(0, 2)


def llama_config(shape: Shape) -> dict[str, Any]:
    scaling = shape.rope_scaling
    rope = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_positions,
        }
    return {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.mlp_width,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": shape.tied,
        "sliding_window": None,
    }


def llama_state(model: Decoder) -> State:
    shape = model.shape
    state = {
        "model.embed_tokens.weight": model.embedding_VD,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.dense(),
    }
    for index, layer in enumerate(model.layers):
        q, k, v = layer.qkv.dense().split([heads * shape.head_width for heads in (shape.heads, *[shape.kv_heads] * 2)])
        parts = {
            "input_layernorm": layer.attention_norm.weight,
            "post_attention_layernorm": layer.mlp_norm.weight,
            "self_attn.q_proj": halves(q, shape.head_width),
            "self_attn.k_proj": halves(k, shape.head_width),
            "self_attn.v_proj": v,
            "self_attn.o_proj": layer.out.dense(),
        }
        if isinstance(layer.mlp, Mlp):
            parts["mlp.gate_proj"], parts["mlp.up_proj"] = layer.mlp.up.dense().chunk(2)
            parts["mlp.down_proj"] = layer.mlp.down.dense()
        else:
            parts["mlp.gate"] = layer.mlp.router_XD
            state |= experts_state(f"model.layers.{index}.mlp.experts", layer.mlp)
        state |= {f"model.layers.{index}.{name}.weight": tensor for name, tensor in parts.items()}
    return state


def experts_state(name: str, experts: Experts) -> State:
    return {
        f"{name}.gate_up_proj": torch.stack([mlp.up.dense() for mlp in experts.mlps]),
        f"{name}.down_proj": torch.stack([mlp.down.dense() for mlp in experts.mlps]),
    }


def mpt_state(model: Decoder) -> State:
    state = {
        "transformer.wte.weight": model.embedding_VD,
        "transformer.norm_f.weight": model.norm.weight,
        "lm_head.weight": model.head.dense(),
    }
    for index, layer in enumerate(model.layers):
        assert isinstance(layer.mlp, Mlp)
        parts = {
            "norm_1": layer.attention_norm.weight,
            "norm_2": layer.mlp_norm.weight,
            "attn.Wqkv": layer.qkv.dense(),
            "attn.out_proj": layer.out.dense(),
            "ffn.up_proj": layer.mlp.up.dense(),
            "ffn.down_proj": layer.mlp.down.dense(),
        }
        state |= {f"transformer.blocks.{index}.{name}.weight": tensor for name, tensor in parts.items()}
    return state


def agree(model: Decoder, theirs: Any, state: State) -> None:
    """Prefill and steps from its cache, to 1e-5 of the logits' size."""
    theirs.load_state_dict(state, strict=True)
    theirs.eval()
    tokens_BT, cache = model.random_tokens(2, 30), model.new_cache(2, 40)
    with torch.no_grad():
        logits_BV = model.forward(tokens_BT, 0, cache)
        for position in range(30, 34):
            expected_BV = theirs(tokens_BT).logits[:, -1]
            assert (logits_BV - expected_BV).abs().max() < 1e-5 * expected_BV.abs().max()
            token_B1 = expected_BV.argmax(dim=-1, keepdim=True)
            tokens_BT = torch.cat([tokens_BT, token_B1], dim=1)
            logits_BV = model.forward(token_B1, position, cache)


def build(shape: Shape) -> Decoder:
    return Decoder(shape, "fp32", "cpu", 0, positions=64)


@pytest.mark.parametrize("tied", [False, True])
def test_llama(tied: bool) -> None:
    model = build(dataclasses.replace(TINY, layers=4, tied=tied))
    config = transformers.LlamaConfig(**llama_config(model.shape))
    agree(model, transformers.LlamaForCausalLM(config), llama_state(model))


def test_mistral() -> None:
    model = build(dataclasses.replace(TINY, rope_scaling=None))
    config = transformers.MistralConfig(**llama_config(model.shape))
    agree(model, transformers.MistralForCausalLM(config), llama_state(model))


def test_mixtral() -> None:
    model = build(SHAPES["tiny-moe"])
    experts = {"num_local_experts": model.shape.experts, "num_experts_per_tok": model.shape.experts_per_token}
    config = transformers.MixtralConfig(**llama_config(model.shape), **experts)
    agree(model, transformers.MixtralForCausalLM(config), llama_state(model))


@pytest.mark.parametrize("heads", [4, 6])
def test_mpt(heads: int) -> None:
    """Of that class the MLP is four times as wide and nothing has a bias; float64 covers those."""
    shape = dataclasses.replace(SHAPES["tiny-alibi"], heads=heads, kv_heads=heads, width=16 * heads, biases=False)
    model = build(dataclasses.replace(shape, mlp_width=4 * shape.width))
    config = transformers.MptConfig(
        n_layers=shape.layers,
        d_model=shape.width,
        n_heads=heads,
        vocab_size=shape.vocabulary,
        max_seq_len=64,
        layer_norm_epsilon=shape.norm_eps,
        no_bias=True,
    )
    agree(model, transformers.MptForCausalLM(config), mpt_state(model))
