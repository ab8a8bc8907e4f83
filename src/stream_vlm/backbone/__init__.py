"""The model: checkpoints, the KV cache with fixed slots, prefill and decode; or a server.

The names are imported when they are first used, so a server as the model needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_vlm.backbone.foreign.kept_model import KeepingModel
    from stream_vlm.backbone.loading import load_model
    from stream_vlm.backbone.recompute.model import RecomputingModel
    from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model

_PLACES = {
    "KeepingModel": "stream_vlm.backbone.foreign.kept_model",
    "RecomputingModel": "stream_vlm.backbone.recompute.model",
    "StreamingModel": "stream_vlm.backbone.streaming_model",
    "load_cached_model": "stream_vlm.backbone.streaming_model",
    "load_model": "stream_vlm.backbone.loading",
}
"""Where each public name lives."""

__all__ = [
    "KeepingModel",
    "RecomputingModel",
    "StreamingModel",
    "load_cached_model",
    "load_model",
]


def __getattr__(name: str) -> object:
    """Import the public name `name` (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
