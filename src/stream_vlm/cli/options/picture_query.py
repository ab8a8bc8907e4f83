"""Read a picture given on the command line, and load the model that embeds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stream_vlm.config.settings import load_settings
from stream_vlm.memory.search.vectors import PictureEmbedder
from stream_vlm.memory.storage.errors import RecallError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_picture_model(directory: Path | None) -> PictureEmbedder:
    """Load the model in `directory`, or the shipped one for None.

    Raises:
        CheckpointError: it cannot be loaded.
        RecallError: it does not compute picture vectors.
    """
    # Loading torch takes seconds: a word search must not wait for it.
    from stream_vlm.backbone import load_model

    model = load_model(
        load_settings({"model.directory": str(directory.expanduser()) if directory else ""})
    )
    if not isinstance(model, PictureEmbedder):
        raise RecallError(
            f"{model.model_id}: does not compute picture vectors; use a Qwen2.5-VL or Qwen3-VL"
            " checkpoint"
        )
    return model


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return the picture in the file `path`, uint8 RGB (H, W, 3).

    Raises:
        RecallError: there is no such file, or it is not a picture.
    """
    from stream_vlm.memory.storage.thumbnails import decoded

    try:
        file = path.expanduser().read_bytes()
    except OSError as error:
        raise RecallError(
            f"{path}: cannot be read ({error.strerror}); give a JPEG or PNG file"
        ) from error
    return decoded(file, str(path))
