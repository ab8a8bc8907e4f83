"""Decides on which devices and with how many bits the weights of a checkpoint are loaded.

The library accelerate (several GPUs) is optional, as are those of `quantization`. A setting that
needs a missing library is refused with a message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from stream_vlm.backbone.checkpoint.quantization import (
    choose_quantization,
    require,
    stored_options,
)
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.config.model_settings import ModelSettings


@dataclass(frozen=True)
class Placement:
    """How weights are loaded.

    Attributes:
        device: the device; the first one if there are several.
        dtype: the dtype of weights that are not quantized.
        options: arguments of `from_pretrained` beyond the dtype.
        quantized: the quantization: "int8", "int4" or the checkpoint's own method; empty if there
            is none.
        library: the library that quantizes the weights while they are loaded; empty if none does.
    """

    device: torch.device
    dtype: torch.dtype
    options: Mapping[str, Any] = field(default_factory=dict)
    quantized: str = ""
    library: str = ""

    @property
    def is_done_by_loading(self) -> bool:
        """Whether `from_pretrained` places all weights on their devices."""
        return "device_map" in self.options


def place(settings: ModelSettings, model_class: Any, config: Any) -> Placement:
    """Decide how a model is loaded.

    Args:
        settings: the settings `model`.
        model_class: the class of the model in transformers.
        config: its configuration.

    Raises:
        CheckpointError: the settings need a device or a library that is missing, or the model does
            not fit.
    """
    device = _device(settings)
    dtype = _dtype(settings, device)
    stored = getattr(config, "quantization_config", None)
    options: dict[str, Any] = {}
    quantized = library = ""
    if settings.weights != "auto":
        if stored is not None:
            raise CheckpointError(
                f"model.weights {settings.weights!r}: these weights are already quantized; leave"
                " model.weights at 'auto'"
            )
        require("accelerate", f"model.weights {settings.weights!r}")
        chosen = choose_quantization(settings.weights, device, dtype)
        options = {"quantization_config": chosen.config, "device_map": {"": device}}
        quantized, library = chosen.bits, chosen.library
    elif stored is not None:
        require("accelerate", "a checkpoint with quantized weights")
        options = {"device_map": {"": device}}
        options |= stored_options(stored, device)
        quantized = "int8" if stored.get("load_in_8bit") else str(stored.get("quant_method"))
    # bitsandbytes logs a cast at every matrix product, which would fill the log.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if settings.device == "split":
        options["device_map"] = spread(model_class, config, dtype, settings.weights)
    return Placement(device, dtype, options, quantized, library)


def spread(
    model_class: Any,
    config: Any,
    dtype: torch.dtype,
    weights: str = "auto",
    room: Mapping[int | str, int | str] | None = None,
) -> dict[str, int | str]:
    """Distribute the modules of a model evenly over the GPUs.

    The vision tower and each layer stay on one GPU.

    Args:
        model_class: the class of the model in transformers.
        config: its configuration.
        dtype: the dtype of weights that are not quantized.
        weights: the setting `model.weights`.
        room: memory by GPU, in bytes or as text such as "10GB"; by default the free memory.

    Returns:
        The GPU of each module.

    Raises:
        CheckpointError: accelerate is missing, or the model is larger than all GPUs together.
    """
    accelerate = require("accelerate", "model.device 'split'")
    with torch.device("meta"):
        outline = model_class(config)
    whole = sorted({*outline._no_split_modules, type(outline.model.visual).__name__})
    sizes: dict[str, Any] = {"no_split_module_classes": whole, "dtype": dtype}
    if weights != "auto":
        in_layers = "model.language_model.layers."
        sizes["dtype"] = (
            torch.int8 if weights.endswith("int8") else accelerate.utils.CustomDtype.INT4
        )
        sizes["special_dtypes"] = {
            name: dtype for name, _ in outline.named_parameters() if not name.startswith(in_layers)
        }
    balanced = accelerate.utils.get_balanced_memory(
        outline, max_memory=dict(room) if room else None, **sizes
    )
    places: dict[str, int | str] = accelerate.infer_auto_device_map(
        outline, max_memory=balanced, **sizes
    )
    outside = sorted(name for name, device in places.items() if device in ("cpu", "disk"))
    if outside:
        raise CheckpointError(
            "model.device 'split': the model is larger than the free memory of all GPUs,"
            f" {outside[0]} does not fit; choose a smaller model or model.weights int8 or int4"
        )
    return places


def _device(settings: ModelSettings) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if settings.device == "auto":
        return torch.device("cpu")
    raise CheckpointError(
        f"model.device {settings.device!r}: PyTorch finds no CUDA device; install a CUDA build of"
        " PyTorch or set model.device to 'cpu'"
    )


def _dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        # On CPUs bfloat16 products are several times slower than float32.
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype
