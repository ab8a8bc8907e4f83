"""Says why loading a checkpoint failed: its files, or the computer that should run it."""

from __future__ import annotations

import torch
from safetensors import SafetensorError

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError

NO_MEMORY = ("can't allocate memory", "not enough memory", "defaultcpuallocator")
NO_KERNEL = ("no kernel image is available", "cuda driver version is insufficient")
CONTRADICTION = ("size mismatch", "mismatched", "ignore_mismatched_sizes")
NO_FILE = ("no file named", "does not appear to have a file", "couldn't connect", "offline")


def loading_failed(name: str, error: Exception, quantized: str = "") -> CheckpointError:
    """Return the error to raise for `error`, which came up while weights were loaded.

    Only a fault of the files is mended by another download. Their headers have been checked before,
    so everything else is a fault of the computer, its libraries or the settings.

    Args:
        name: how the checkpoint is named in messages.
        error: what was raised.
        quantized: the quantization of the weights; empty if there is none.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    low = said.lower()
    if isinstance(error, torch.OutOfMemoryError):
        return CheckpointError(
            f"{name}: does not fit into the GPU's memory; choose a smaller model, model.weights"
            " int8 or int4, or, with several GPUs, model.device split"
        )
    if isinstance(error, MemoryError) or any(words in low for words in NO_MEMORY):
        return CheckpointError(
            f"{name}: does not fit into this computer's memory ({said[:200]}); choose a smaller"
            " model, or stop other programs"
        )
    if isinstance(error, ImportError):
        return CheckpointError(f"{name}: a library that its weights need is missing: {said}")
    if isinstance(error, SafetensorError) or any(words in low for words in CONTRADICTION):
        return CheckpointError(
            f"{name}: cannot be loaded: its files contradict each other ({said}); download the"
            " checkpoint again"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return CheckpointError(
            f"{name}: cannot be loaded: {error.strerror} ({error.filename}); check permissions and"
            " the disk"
        )
    if isinstance(error, OSError) and any(words in low for words in NO_FILE):
        return CheckpointError(f"{name}: cannot be loaded: {said}; download the checkpoint again")
    if any(words in low for words in NO_KERNEL):
        return CheckpointError(
            f"{name}: this build of PyTorch does not run on this GPU ({said[:200]}); install one"
            " for it, or set model.device cpu"
        )
    if quantized:
        return CheckpointError(
            f"{name}: its weights are quantized ({quantized}), and this computer cannot load them:"
            f" {said}; use the checkpoint without quantization, or a computer with what is missing"
        )
    return CheckpointError(
        f"{name}: cannot be loaded: {type(error).__name__}: {said}; its weight files are whole, so"
        " look at config.json, the settings model.* and the versions of torch and transformers"
    )
