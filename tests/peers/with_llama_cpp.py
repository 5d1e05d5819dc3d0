"""llama.cpp by ``llama-cpp-python``, through the library's own calls, so that no Python loop copies its logits.

Weights come from ``PEER_GGUF``, a file that ``tests.peers.gguf_file`` has written; as many threads as the others have.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from kernels._decoder_shape import SHAPES
from tests.peers import LOGITS_TOLERANCE

_ROPE_FACTORS = 1024  # at most: they count among llama.cpp's parameters, and are none of the model's


class _Llama:
    def __init__(self) -> None:
        import llama_cpp  # type: ignore[import-not-found, unused-ignore]

        self.shape = SHAPES[os.environ["PEER_MODEL"]]
        self.tokens = int(os.environ["PEER_TOKENS"])
        self.steps = int(os.environ.get("PEER_STEPS", "0"))
        self._lib: Any = llama_cpp
        self._no_log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._no_log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            os.environ["PEER_GGUF"].encode(), llama_cpp.llama_model_default_params()
        )
        self._context = self._new_context(self.tokens)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._prompt = (ctypes.c_int32 * self.tokens)(*(7919 * i % self.shape.vocabulary for i in range(self.tokens)))
        self._token = (ctypes.c_int32 * 1)()
        self._behind: list[int] = []  # the tokens that the last call took behind the prompt

    def _new_context(self, at_once: int) -> Any:
        """With room for the prompt and the steps."""
        params = self._lib.llama_context_default_params()
        params.n_ctx = self.tokens + self.steps
        params.n_batch = params.n_ubatch = at_once
        params.n_threads = params.n_threads_batch = int(os.environ["OMP_NUM_THREADS"])
        params.no_perf = True
        return self._lib.llama_init_from_model(self.model, params)

    def prefill(self) -> Any:
        """Logits behind the last token alone."""
        self._lib.llama_memory_clear(self._memory, False)
        self._behind = []
        return self._forward(self._context, self._prompt)

    def decode(self) -> Any:
        """Greedy steps from the end of the context on."""
        self._lib.llama_memory_seq_rm(self._memory, 0, self.tokens, -1)
        self._behind = []
        self._token[0] = self._prompt[0]
        for _ in range(self.steps):
            self._behind.append(self._token[0])
            logits_V = self._forward(self._context, self._token)
            self._token[0] = int(logits_V.argmax())
        return logits_V

    def _forward(self, context: Any, tokens: Any) -> Any:
        import numpy as np

        if self._lib.llama_decode(context, self._lib.llama_batch_get_one(tokens, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        return np.ctypeslib.as_array(self._lib.llama_get_logits_ith(context, -1), (self.shape.vocabulary,))

    def is_right(self, logits_V: Any) -> bool:
        """The parameters of the shape in two bytes each, but for the norms; its last logits, and its position."""
        parameters = self._lib.llama_model_n_params(self.model)
        size = self._lib.llama_model_size(self.model)
        exact = self.shape.parameters
        widened = 2 * self.shape.norm_parameters + 4 * _ROPE_FACTORS
        length = self.tokens + len(self._behind)
        return (
            exact <= parameters <= exact + _ROPE_FACTORS
            and 2 * exact <= size <= 2 * exact + widened
            and self._lib.llama_memory_seq_pos_max(self._memory, 0) == length - 1
            and self.error(logits_V) <= LOGITS_TOLERANCE
        )

    def error(self, logits_V: Any) -> float:
        """How far they are from those of all the tokens at once in a new context: relative, in the 2-norm."""
        import numpy as np

        given = [*self._prompt, *self._behind]
        context = self._new_context(len(given))
        whole_V = self._forward(context, (ctypes.c_int32 * len(given))(*given)).copy()
        self._lib.llama_free(context)
        return float(np.linalg.norm(logits_V - whole_V) / np.linalg.norm(whole_V))


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
