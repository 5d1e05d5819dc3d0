"""``Peak``: what a datasheet promises of a GPU, with the document that says so.

Every figure is dense. Tensor-core figures that NVIDIA publishes "with sparsity" skip half of the work: they are kept
here as published and halved where they are looked up. A card is known only under the exact names that NVML and torch
report; a MIG slice, a cloud vendor's variant or an unlisted card has no peak rather than a guessed one.

Left out, because NVIDIA's own documents disagree, do not say, or could not be read: fp32 and fp64 of Blackwell (the
architecture brief against the HGX table), int8 and memory of the B300, memory of the B200 (7.7 or 8 TB/s), of GH200 and
of the T4 (300 or 320 GB/s), fp64 of Ada, fp32 and fp64 of H100 NVL, and all of H200 NVL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Peak:
    """A dense datasheet peak: FLOP/s, OP/s or B/s, and where it was read."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class _Card:
    """One column of a datasheet. Rates are in 1e12 operations per second and keyed as in ``roof/compute/<key>``.

    ``fp64`` is the tensor cores' rate where they have one, ``fp64-vector`` the other units'.
    """

    names: tuple[str, ...]
    document: str
    memory_gb_s: float | None = None
    dense: Mapping[str, float] = field(default_factory=dict)
    with_sparsity: Mapping[str, float] = field(default_factory=dict)


_A100 = "NVIDIA A100 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/a100/"
_A100_DENSE = {
    "fp64": 19.5,
    "fp64-vector": 9.7,
    "fp32": 19.5,
    "tf32": 156,
    "bf16": 312,
    "fp16": 312,
    "int8": 624,
}
_V100 = (
    "NVIDIA V100 Tensor Core GPU datasheet, "
    "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
)
_H100 = (
    "NVIDIA H100 Tensor Core GPU datasheet, "
    "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
)
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/h200/"
_GH200 = (
    "NVIDIA GH200 Grace Hopper Superchip datasheet, https://www.nvidia.com/en-us/data-center/grace-hopper-superchip/"
)
# H100 SXM, H200 and GH200 carry the same compute.
_HOPPER_SXM_DENSE = {"fp64": 67, "fp64-vector": 34, "fp32": 67}
_HOPPER_SXM_SPARSE = {"tf32": 989, "bf16": 1979, "fp16": 1979, "fp8-e4m3": 3958, "int8": 3958}

_CARDS = (
    _Card(
        ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"),
        _V100,
        memory_gb_s=900,
        dense={"fp64": 7.8, "fp64-vector": 7.8, "fp32": 15.7, "fp16": 125},
    ),
    _Card(
        ("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"),
        _V100,
        memory_gb_s=900,
        dense={"fp64": 7, "fp64-vector": 7, "fp32": 14, "fp16": 112},
    ),
    _Card(
        ("Tesla V100S-PCIE-32GB",),
        _V100,
        memory_gb_s=1134,
        dense={"fp64": 8.2, "fp64-vector": 8.2, "fp32": 16.4, "fp16": 130},
    ),
    _Card(
        ("Tesla T4",),
        "NVIDIA T4 Tensor Core GPU datasheet, "
        "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/t4-tensor-core-datasheet-951643.pdf",
        dense={"fp32": 8.1, "fp16": 65, "int8": 130},
    ),
    _Card(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"), _A100, memory_gb_s=1555, dense=_A100_DENSE),
    _Card(("NVIDIA A100 80GB PCIe",), _A100, memory_gb_s=1935, dense=_A100_DENSE),
    _Card(("NVIDIA A100-SXM4-80GB",), _A100, memory_gb_s=2039, dense=_A100_DENSE),
    _Card(
        ("NVIDIA A30",),
        "NVIDIA A30 datasheet, "
        "https://www.nvidia.com/content/dam/en-zz/Solutions/data-center/products/a30-gpu/pdf/a30-datasheet.pdf",
        memory_gb_s=933,
        dense={
            "fp64": 10.3,
            "fp64-vector": 5.2,
            "fp32": 10.3,
            "tf32": 82,
            "bf16": 165,
            "fp16": 165,
            "int8": 330,
        },
    ),
    _Card(
        ("NVIDIA A10",),
        "NVIDIA A10 datasheet, "
        "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a10/pdf/a10-datasheet.pdf",
        memory_gb_s=600,
        dense={"fp32": 31.2, "tf32": 62.5, "bf16": 125, "fp16": 125, "int8": 250},
    ),
    _Card(
        ("NVIDIA L4",),
        "NVIDIA L4 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/l4/",
        memory_gb_s=300,
        dense={"fp32": 30.3},
        with_sparsity={"tf32": 120, "bf16": 242, "fp16": 242, "fp8-e4m3": 485, "int8": 485},
    ),
    _Card(
        ("NVIDIA L40",),
        "NVIDIA L40 datasheet, https://www.nvidia.com/en-us/data-center/l40/",
        memory_gb_s=864,
        dense={"fp32": 90.5, "tf32": 90.5, "bf16": 181.05, "fp16": 181.05, "fp8-e4m3": 362, "int8": 362},
    ),
    _Card(
        ("NVIDIA L40S",),
        "NVIDIA L40S datasheet, https://www.nvidia.com/en-us/data-center/l40s/",
        memory_gb_s=864,
        dense={"fp32": 91.6, "tf32": 183, "bf16": 362.05, "fp16": 362.05, "fp8-e4m3": 733, "int8": 733},
    ),
    _Card(
        ("NVIDIA H100 PCIe",),
        _H100,
        memory_gb_s=2000,
        dense={"fp64": 51, "fp64-vector": 26, "fp32": 51},
        with_sparsity={"tf32": 756, "bf16": 1513, "fp16": 1513, "fp8-e4m3": 3026, "int8": 3026},
    ),
    _Card(
        ("NVIDIA H100 80GB HBM3",),
        _H100,
        memory_gb_s=3350,
        dense=_HOPPER_SXM_DENSE,
        with_sparsity=_HOPPER_SXM_SPARSE,
    ),
    _Card(
        ("NVIDIA H100 NVL",),
        _H100,
        memory_gb_s=3900,
        with_sparsity={"tf32": 835, "bf16": 1671, "fp16": 1671, "fp8-e4m3": 3341, "int8": 3341},
    ),
    _Card(("NVIDIA H200",), _H200, memory_gb_s=4800, dense=_HOPPER_SXM_DENSE, with_sparsity=_HOPPER_SXM_SPARSE),
    _Card(
        ("NVIDIA GH200 480GB", "NVIDIA GH200 144G HBM3e"),
        _GH200,
        dense=_HOPPER_SXM_DENSE,
        with_sparsity=_HOPPER_SXM_SPARSE,
    ),
    # Published for a board of eight, divided by eight.
    _Card(
        ("NVIDIA B200",),
        "NVIDIA Blackwell datasheet, HGX B200, https://nvdam.widen.net/s/wwnsxrhm2w/blackwell-datasheet-3384703",
        with_sparsity={"tf32": 2250, "bf16": 4500, "fp16": 4500, "fp8-e4m3": 9000, "int8": 9000},
    ),
    _Card(
        ("NVIDIA B300 SXM6 AC",),
        "NVIDIA HGX platform specifications, HGX B300, https://www.nvidia.com/en-us/data-center/hgx/",
        with_sparsity={"tf32": 2250, "bf16": 4500, "fp16": 4500, "fp8-e4m3": 9000},
    ),
    # Published for a superchip of two, divided by two.
    _Card(
        ("NVIDIA GB200",),
        "NVIDIA GB200 NVL72 specifications, https://www.nvidia.com/en-us/data-center/gb200-nvl72/",
        memory_gb_s=8000,
        with_sparsity={"tf32": 2500, "bf16": 5000, "fp16": 5000, "fp8-e4m3": 10000, "int8": 10000},
    ),
)

_BY_NAME = {name: card for card in _CARDS for name in card.names}

# Datasheets have one figure for both 8-bit formats.
_SAME = {"fp8-e5m2xe4m3": "fp8-e4m3"}


def peak(device_name: str | None, roof: str) -> Peak | None:
    """The datasheet's peak behind a roof such as ``roof/compute/bf16`` or ``roof/memory/read``.

    Args:
        device_name: the name as NVML or torch reports it.

    Returns:
        None where the card or the figure is not known. All roofs of the card's memory share the one bandwidth that a
        datasheet has.
    """
    card = _BY_NAME.get(device_name or "")
    if card is None or "@where=host" in roof:
        return None
    family, _, key = roof.rpartition("/")
    if family == "roof/memory" and card.memory_gb_s is not None:
        return Peak(card.memory_gb_s * 1e9, "B/s", card.document)
    if family != "roof/compute":
        return None
    key = _SAME.get(key, key)
    unit = "OP/s" if key.startswith("int") else "FLOP/s"
    if key in card.dense:
        return Peak(card.dense[key] * 1e12, unit, card.document)
    if key in card.with_sparsity:
        return Peak(card.with_sparsity[key] / 2 * 1e12, unit, f"{card.document}; half of its figure with sparsity")
    return None
