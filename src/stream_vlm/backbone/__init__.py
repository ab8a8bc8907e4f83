"""The model: checkpoint loading, fixed-slot KV cache, prefill and decode."""

from stream_vlm.backbone.model import StreamingModel, load_cached_model, load_model
from stream_vlm.backbone.recompute import RecomputingModel

__all__ = ["RecomputingModel", "StreamingModel", "load_cached_model", "load_model"]
