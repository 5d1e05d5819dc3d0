"""A Llama of ``transformers`` with random weights and its static cache, attention by torch's SDPA: its own default."""

from __future__ import annotations

import functools
import os
from typing import Any

from kernels._decoder_shape import SHAPES, Shape
from tests.peers import LOGITS_TOLERANCE

_DRAWN = 4_194_301  # a prime, so that no two rows are alike


def llama_config(shape: Shape) -> dict[str, Any]:
    """What ``transformers.LlamaConfig`` calls the facts of a shape."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if (scaling := shape.rope_scaling) is not None:
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
    }


class _Llama:
    """The model, and a cache with room for the prompt or for the context and the steps behind it."""

    def __init__(self) -> None:
        import torch
        import transformers
        from transformers.initialization import no_init_weights

        self.shape = SHAPES[os.environ["PEER_MODEL"]]
        self.tokens = int(os.environ["PEER_TOKENS"])
        self.steps = int(os.environ.get("PEER_STEPS", "0"))
        self._torch = torch
        self._device = os.environ["PEER_DEVICE"]
        config = transformers.LlamaConfig(**llama_config(self.shape))
        with torch.device(self._device), no_init_weights():  # its own drawing takes minutes
            torch.set_default_dtype(torch.bfloat16)
            self.model = transformers.LlamaForCausalLM(config).eval()
            torch.set_default_dtype(torch.float32)
            self._prompt_BT = torch.randint(self.shape.vocabulary, (1, self.tokens))
        self.model.tie_weights()  # which is part of the drawing
        for parameter in self.model.parameters():
            _fill(parameter)
        self._cache = transformers.StaticCache(config=config, max_cache_len=self.tokens + self.steps)
        self._behind: list[Any] = []  # the tokens that the last call took behind the prompt

    def prefill(self) -> Any:
        """Logits behind the last token alone."""
        self._rewind(0)
        self._behind = []
        return self._forward(self._prompt_BT)

    def decode(self) -> Any:
        """Greedy steps from the end of the context on."""
        self._rewind(self.tokens)
        self._behind = []
        token_B1 = self._prompt_BT[:, :1]
        for _ in range(self.steps):
            self._behind.append(token_B1)
            logits_B1V = self._forward(token_B1)
            token_B1 = logits_B1V.max(dim=-1).indices
        return logits_B1V

    def _forward(self, tokens_BT: Any) -> Any:
        with self._torch.inference_mode():
            return self.model(input_ids=tokens_BT, past_key_values=self._cache, logits_to_keep=1).logits

    def _rewind(self, position: int) -> None:
        with self._torch.inference_mode():
            for layer in self._cache.layers:
                layer.cumulative_length.fill_(position)

    def is_right(self, logits_B1V: Any) -> bool:
        """The parameters of the shape, all in bf16; the last call's logits, and how far each layer's cache got."""
        parameters = list(self.model.parameters())
        length = self.tokens + len(self._behind)
        return (
            sum(parameter.numel() for parameter in parameters) == self.shape.parameters
            and {parameter.dtype for parameter in parameters} == {self._torch.bfloat16}
            and tuple(logits_B1V.shape) == (1, 1, self.shape.vocabulary)
            and all(int(layer.get_seq_length()) == length for layer in self._cache.layers)
            and self.error(logits_B1V) <= LOGITS_TOLERANCE
        )

    def error(self, logits_B1V: Any) -> float:
        """How far they are from those of all the tokens at once, without a cache: relative, in the 2-norm."""
        given_BT = self._torch.cat([self._prompt_BT, *self._behind], dim=1)
        with self._torch.inference_mode():
            whole_B1V = self.model(input_ids=given_BT, use_cache=False, logits_to_keep=1).logits.float()
            return float((logits_B1V.float() - whole_B1V).norm() / whole_B1V.norm())


def _fill(parameter: Any) -> None:
    """Norms of ones, and matrices of variance 1/columns, whose numbers come again and again: drawing takes long."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
            return
        generator = torch.Generator(parameter.device).manual_seed(0)
        drawn = torch.randn(_DRAWN, generator=generator, device=parameter.device) * parameter.shape[1] ** -0.5
        for part in parameter.view(-1).split(_DRAWN):
            part.copy_(drawn[: len(part)])


@functools.cache
def _llama() -> _Llama:
    llama = _Llama()
    llama.prefill()  # which fills the context of a decode as well
    return llama


def prefill() -> Any:
    return _llama().prefill()


def check_prefill() -> bool:
    return _llama().is_right(prefill())


def decode() -> Any:
    return _llama().decode()


def check_decode() -> bool:
    return _llama().is_right(decode())
