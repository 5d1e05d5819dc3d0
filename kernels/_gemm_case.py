"""The case that ``matmul`` and ``roof/compute`` time: one matrix product, once per launch."""

from __future__ import annotations

import contextlib

from bench.device.base import Device
from bench.kernel import Case
from bench.types import Check
from kernels._gemm import Shape, tolerance, work
from kernels._gemm_backends import float32_precision, require_backend, require_tf32, tried
from kernels._gemm_product import Product


class Gemm(Case):
    """A prepared product. While it is open, the library's float32 precision is set to what the dtype says."""

    def __init__(self, dtype: str, shape: Shape, backend: str, device: Device, seed: int, *, cold: bool = False):
        """Allocate, fill and launch once.

        Raises:
            Unsupported: the backend or the device has no such product, in its own words; or tf32 changes nothing here.
        """
        self.work = work(dtype, shape)
        self.resets = cold
        self._device = device
        self._tolerance = tolerance(dtype, shape.k)
        require_backend(backend, dtype, device)
        with contextlib.ExitStack() as settings:
            settings.enter_context(float32_precision(backend, dtype))
            if dtype == "tf32":
                require_tf32(backend, device, seed)
            self._product = Product(dtype, shape, device, seed)
            self._enqueue = tried(backend, dtype, self._product)
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
        return Check(error, self._tolerance, self._product.sha256(), "in root mean squares of the exact result")

    def close(self) -> None:
        self._settings.close()
        del self._enqueue, self._product
