"""Chooses the library that reads or makes quantized weights, and tries it before the weights.

Every library here is optional. bitsandbytes can be imported on a Jetson and fails at its first
kernel, so a library counts only after it has computed one product on the device.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, CompressedTensorsConfig, TorchAoConfig

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError

UNQUANTIZED = ["model.visual", "lm_head"]
"""Modules that are never quantized: vision tokens and the logits of the states depend on them."""
GROUP = 128
"""Weights that share one scale with 4 bits and torchao."""
FP8_CAPABILITY = (8, 9)
"""The lowest compute capability of a GPU that multiplies weights with 8-bit floats."""
STORED: Mapping[str, tuple[str, ...]] = {
    "awq": ("gptqmodel",),
    "gptq": ("optimum", "gptqmodel"),
    "compressed-tensors": ("compressed_tensors",),
    "torchao": ("torchao",),
    "bitsandbytes": ("bitsandbytes",),
    "fp8": (),
}
"""Libraries that transformers needs for a checkpoint that is stored quantized, by its method."""

Bits = Literal["int8", "int4"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantization:
    """How weights are quantized while they are loaded.

    Attributes:
        bits: "int8" or "int4".
        library: "bitsandbytes" or "torchao".
        config: the configuration for `from_pretrained`.
    """

    bits: Bits
    library: str
    config: Any


def choose_quantization(weights: str, device: torch.device, dtype: torch.dtype) -> Quantization:
    """Choose a library that works on `device`.

    Args:
        weights: the setting `model.weights`: int8 or int4 takes bitsandbytes, or torchao if that
            does not work here; torchao-int8 and torchao-int4 take torchao only.
        device: the device.
        dtype: the dtype of the computation.

    Raises:
        CheckpointError: no library works; the message says why for each, and the remedy.
    """
    bits: Bits = "int8" if weights.endswith("int8") else "int4"
    libraries = ["torchao"] if weights.startswith("torchao") else ["bitsandbytes", "torchao"]
    failures: list[str] = []
    for library in libraries:
        try:
            config = _MAKERS[library](bits, device, dtype)
        except Exception as error:
            # Libraries with kernels of their own can raise anything where these do not run.
            said = " ".join(str(error).split())[:200]
            failures.append(f"{library} fails ({type(error).__name__}: {said})")
            continue
        if failures:
            log.warning("model.weights %r: %s, so %s is used", weights, failures[0], library)
        return Quantization(bits, library, config)
    raise CheckpointError(
        f"model.weights {weights!r}: no library works on {device} with {dtype}:"
        f" {'; '.join(failures)}; install one for this computer with 'pip install bitsandbytes'"
        " or 'pip install torchao', or set model.weights to auto"
    )


def _bitsandbytes(bits: Bits, device: torch.device, dtype: torch.dtype) -> BitsAndBytesConfig:
    layers: Any = importlib.import_module("bitsandbytes.nn")
    layer = (
        layers.Linear8bitLt(GROUP, GROUP, bias=False, has_fp16_weights=False)
        if bits == "int8"
        else layers.Linear4bit(GROUP, GROUP, bias=False, compute_dtype=dtype, quant_type="nf4")
    )
    _check_product(layer.to(device), device, dtype)
    if bits == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=UNQUANTIZED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=UNQUANTIZED,
    )


def _torchao(bits: Bits, device: torch.device, dtype: torch.dtype) -> TorchAoConfig:
    torchao: Any = importlib.import_module("torchao.quantization")
    kind = (
        torchao.Int8WeightOnlyConfig()
        if bits == "int8"
        else torchao.Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
    )
    layer = torch.nn.Linear(2 * GROUP, 2 * GROUP, bias=False, device=device, dtype=dtype)
    torchao.quantize_(layer, kind)
    _check_product(layer, device, dtype)
    return TorchAoConfig(kind, modules_to_not_convert=UNQUANTIZED)


_MAKERS: Mapping[str, Callable[[Bits, torch.device, torch.dtype], Any]] = {
    "bitsandbytes": _bitsandbytes,
    "torchao": _torchao,
}


@torch.inference_mode()
def _check_product(layer: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Compute one product.

    Raises:
        ArithmeticError: the product is not finite.
        Exception: whatever a kernel raises that does not run on this device.
    """
    columns = int(layer.in_features)  # type: ignore[arg-type]  # a linear layer of some library
    product = layer(torch.ones(1, columns, device=device, dtype=dtype))
    if not bool(torch.isfinite(product).all()):
        raise ArithmeticError("its product is not finite")


def stored_options(stored: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained` for weights that are stored quantized.

    Args:
        stored: `quantization_config` of the checkpoint.
        device: the device.

    Raises:
        CheckpointError: a library is missing; the message names it.
    """
    method = str(stored.get("quant_method"))
    for library in STORED.get(method, ()):
        require(library, f"a checkpoint with quantized weights ({method})")
    has_fp8 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY
    if method == "fp8" and not has_fp8:
        log.warning(
            "the weights are stored as FP8, which %s cannot multiply (it needs a GPU of compute"
            " capability 8.9 or more), so they are unpacked and take twice the memory",
            torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU",
        )
    if method == "compressed-tensors" and not (
        has_fp8 and str(stored.get("format")).startswith("float")
    ):
        # transformers computes with unpacked weights only; packed ones fail at the first product.
        log.warning(
            "the weights are stored as compressed-tensors, which transformers unpacks, so they take"
            " as much memory as unquantized ones; a server (model.url) computes with packed weights"
        )
        return {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    return {}


def set_unpacked_dtype(model: Any, dtype: torch.dtype) -> None:
    """Give weights that were unpacked the dtype of the computation.

    transformers unpacks them to bfloat16, whatever dtype was asked for. A model with weights that
    stay in FP8 is left as it is.

    Args:
        model: a model whose weights were stored quantized.
        dtype: the dtype of the computation.
    """
    if any(weight.dtype is torch.float8_e4m3fn for weight in model.parameters()):
        return
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype is torch.bfloat16:
            tensor.data = tensor.data.to(dtype)


def require(library: str, needed_by: str) -> Any:
    """Import an optional library.

    Raises:
        CheckpointError: it cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(library)
    except Exception as error:
        # A library that was built for another CUDA version can raise anything.
        raise CheckpointError(
            f"{needed_by} needs {library}, which cannot be imported ({type(error).__name__}:"
            f" {error}); install it with 'pip install {library.replace('_', '-')}'"
        ) from error
