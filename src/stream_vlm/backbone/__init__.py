"""The model: checkpoint loading, fixed-slot KV cache, prefill and decode."""

from stream_vlm.backbone.model import StreamingModel, load_model

__all__ = ["StreamingModel", "load_model"]
