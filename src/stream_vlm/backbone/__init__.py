"""The model: checkpoints, the KV cache with fixed slots, prefill and decode."""

from stream_vlm.backbone.recompute.model import RecomputingModel
from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model, load_model

__all__ = ["RecomputingModel", "StreamingModel", "load_cached_model", "load_model"]
