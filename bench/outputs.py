"""Outputs beside each other, bit by bit: which must be equal, the one that a run keeps, and how another differs.

Sound hardware gives the same bits each time where nothing differs that determines them: see `conditions`. For cuBLAS
its documentation promises that ("Results reproducibility"): of one version of the toolkit, on GPUs of one architecture
and as many SMs, while one stream is active.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.spec import content_id
from bench.types import SOAK_ARM, Check, Output

if TYPE_CHECKING:
    import numpy as np

MOST_KEPT_BYTES = 256 << 20  # of a larger output only the hash is kept
_LEAST_FREE = 8  # times as much has to be free: rows come first

_COLUMNS = ("workload", "candidate", "spec_id", "device_name", "driver", "cuda", "torch", "cupy", "numpy")
_OF_A_CPU = ("cpu_model", "threads")  # how many threads there are is how a product is split
_DETAILS = ("torch_capabilities", "float32_matmul_precision", "matmul", "numpy_blas", "variables", "unreadable")
_PACKAGES = ("triton", "nvidia-cublas", "nvidia-cudnn")


def conditions(row: Mapping[str, Any]) -> str:
    """All that determines the bits of a row's output, in words: rows where it is equal must have equal outputs.

    Not known to it are a GPU's SMs (its model stands for them) and the node, which must not matter.
    """
    try:
        details = json.loads(row["environment"] or "{}")
    except ValueError:
        details = {"unreadable": row["environment"]}
    names = _COLUMNS if row["device"] == "cuda" else (*_COLUMNS, *_OF_A_CPU)
    known = {name: row[name] for name in names if row[name] is not None}
    packages = details.get("packages") or {}
    settings = {name: details.get(name) for name in _DETAILS} | {name: packages.get(name) for name in _PACKAGES}
    known["settings"] = content_id(settings)
    return "; ".join(f"{name} {value}" for name, value in known.items())


def place(row: Mapping[str, Any]) -> str:
    """Which device computed it, and when: ``cuda:3 GPU-5f…, replicate 2``; in a soak ``…, stretch 17``."""
    device = "cpu" if row["device"] == "cpu" else f"{row['device']}:{row['device_index']}"
    stretch = f", stretch {row['session']}" if row["arm"] == SOAK_ARM else ""
    return " ".join(filter(None, (device, row["device_uuid"]))) + f", replicate {row['replicate']}{stretch}"


def difference(seen: Output, kept: Output) -> str:
    """How two outputs of different hashes differ: how many elements, and of the first its index, bits and values."""
    import numpy as np

    if (seen.dtype, seen.shape) != (kept.dtype, kept.shape):
        return f"{seen.dtype}{list(seen.shape)} where there was {kept.dtype}{list(kept.shape)}"
    if len(seen.data) != len(kept.data):
        return f"sha256 {seen.sha256[:16]}… where it was {kept.sha256[:16]}…; the output was too large to be kept"
    elements = math.prod(seen.shape)
    pair = [np.frombuffer(one.data, np.uint8).reshape(elements, -1) for one in (seen, kept)]
    differing = np.flatnonzero((pair[0] != pair[1]).any(axis=1))
    first = int(differing[0])
    index = [int(i) for i in np.unravel_index(first, seen.shape)]
    digits = 2 * pair[0].shape[1]
    bits = [int.from_bytes(one[first].tobytes(), "little") for one in pair]
    words = [f"0x{bit:0{digits}x} ({_value(one[first], seen.dtype)})" for bit, one in zip(bits, pair, strict=True)]
    return (
        f"element {index} is {words[0]} where it was {words[1]}, xor 0x{bits[0] ^ bits[1]:0{digits}x}; "
        f"{len(differing)} of {elements} elements differ"
    )


def _value(element: np.ndarray, dtype: str) -> str:
    """The number behind an element's bytes."""
    import numpy as np

    if dtype == "bfloat16":  # the upper half of a float32
        element, dtype = np.concatenate([np.zeros(2, np.uint8), element]), "float32"
    return repr(element.view(dtype)[0].item())


@dataclass(frozen=True)
class _Kept:
    output: Output  # without its data where it was too large
    place: str


class Watch:
    """The outputs of one measurement, held against the first of their kind that this run has kept.

    The first measurement whose outputs before and after timing agree keeps the latter, for all workers of its run. What
    cannot be kept, for its size or for lack of room, is compared by its hash when the run is judged.
    """

    def __init__(self, folder: Path, row: Mapping[str, Any]) -> None:
        self._path = folder / content_id({"conditions": conditions(row)})
        self._place = place(row)
        self._sha256: str | None = None
        self._difference: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The hash, of two that differ that of the odd one, and what is odd."""
        return {"output_sha256": self._sha256, "output_difference": self._difference}

    def before_timing(self, check: Check) -> None:
        self._see(check, "before timing")

    def after_timing(self, check: Check) -> None:
        before = self._sha256
        self._see(check, "after timing")
        if check.output is None or not check.ok or self._difference is not None:
            return
        if before is not None and before != check.output.sha256:
            self._difference = (
                f"{self._place}, check after timing: sha256 {check.output.sha256[:16]}… "
                f"where it was {before[:16]}… before timing"
            )
        elif not _keep(self._path, _Kept(check.output, f"{self._place}, check after timing")):
            self._see(check, "after timing")  # another worker's came first, just now

    def _see(self, check: Check, when: str) -> None:
        if check.output is None or self._difference is not None:
            return
        self._sha256 = check.output.sha256
        kept = _kept(self._path, unless=self._sha256)
        if kept is not None:
            how = difference(check.output, kept.output)
            self._difference = f"{self._place}, check {when}: {how}, compared with {kept.place}"


def _kept(path: Path, unless: str) -> _Kept | None:
    """What is kept; None where nothing is, or where it has that hash."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        head = json.loads(file.readline())
        if head["sha256"] != unless:
            data = memoryview(file.read())
            return _Kept(Output(head["dtype"], tuple(head["shape"]), data, head["sha256"]), head["place"])
    return None


def _keep(path: Path, kept: _Kept) -> bool:
    """Keep an output whole or not at all; False where one is there already. Lack of room is no error."""
    output = kept.output
    head = {"dtype": output.dtype, "shape": output.shape, "sha256": output.sha256, "place": kept.place}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        is_small = len(output.data) <= MOST_KEPT_BYTES
        has_room = shutil.disk_usage(path.parent).free > _LEAST_FREE * len(output.data)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = file.name
            file.write(json.dumps(head).encode() + b"\n")
            file.write(output.data if is_small and has_room else b"")
            file.flush()
            os.fsync(file.fileno())  # so that it is not written while the next workload is timed
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        pass
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
    return True
