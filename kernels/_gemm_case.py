"""The case that the ``matmul`` kernels and ``roof/compute`` time: their products, once per launch."""

from __future__ import annotations

import contextlib

from bench.device.base import Device
from bench.kernel import Case
from bench.types import Check
from kernels._gemm import Stack, tolerance, work
from kernels._gemm_backends import BACKENDS, Library, float32_precision, require_backend, require_tf32, tried
from kernels._gemm_product import Product
from kernels._output import taken


class Gemm(Case):
    """Prepared products. While it is open, the library's float32 precision is set to what the dtype says."""

    has_equal_bits = True  # from process to process; not where the algorithm is chosen by timing it

    def __init__(
        self,
        dtype: str,
        stack: Stack,
        device: Device,
        seed: int,
        *,
        backend: str = "torch",
        library: Library | None = None,
        cold: bool = False,
    ):
        """Allocate, fill and launch once.

        Args:
            library: makes the launch, where it is not the backend's plain product.

        Raises:
            Unsupported: the library or the device has no such product, in its own words; or tf32 changes nothing here.
        """
        self.work = work(dtype, stack)
        self.resets = cold
        self._device = device
        self._tolerance = tolerance(dtype, stack.k)
        require_backend(backend, dtype, device)
        with contextlib.ExitStack() as settings:
            settings.enter_context(float32_precision(backend, dtype))
            if dtype == "tf32":
                require_tf32(backend, device, seed)
            self._product = Product(dtype, stack, device, seed)
            self._enqueue = tried(library or BACKENDS[backend], dtype, self._product)
            self._settings = settings.pop_all()

    def launch(self) -> None:
        self._enqueue()

    def reset(self) -> None:
        self._device.flush_cache()

    def check(self) -> Check:
        self._product.poison()
        self._enqueue()
        self._device.synchronize()
        error = self._product.error()
        output = taken(self._product.out_MN) if self.has_equal_bits else None
        return Check(error, self._tolerance, output, "in root mean squares of the exact result")

    def close(self) -> None:
        self._settings.close()
        del self._enqueue, self._product
