"""Loads the model that the settings name: a checkpoint, or a server."""

from __future__ import annotations

from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import DeviceModel


def load_model(settings: Settings) -> DeviceModel:
    """Load the model that `settings.model` names.

    With `model.url` this is a server, and neither torch nor transformers is imported.

    Raises:
        StreamError: the checkpoint cannot be used, or the server lacks what a stream needs.
    """
    if settings.model.url:
        from stream_vlm.backbone.remote.model import load_remote_model

        return load_remote_model(settings)
    from stream_vlm.backbone.streaming_model import load_model as load_checkpoint_model

    return load_checkpoint_model(settings)
