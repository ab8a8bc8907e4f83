"""Loads the model that the settings name: a checkpoint, or a server."""

from __future__ import annotations

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import DeviceModel


def load_model(settings: Settings) -> DeviceModel:
    """Load the model that `settings.model` names.

    With `model.url` this is a server, and neither torch nor transformers is imported.

    Raises:
        SettingError: both a checkpoint and a server are set.
        StreamError: the checkpoint cannot be used, or the server lacks what a stream needs.
    """
    if settings.model.url:
        if settings.model.directory:
            raise SettingError(
                "model.url and model.directory are both set, but a server runs a model of its own;"
                " leave one of them empty"
            )
        from stream_vlm.backbone.remote.model import load_remote_model

        return load_remote_model(settings)
    from stream_vlm.backbone.streaming_model import load_model as load_checkpoint_model

    return load_checkpoint_model(settings)
