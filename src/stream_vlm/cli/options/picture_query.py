"""Pictures given on the command line, as the vectors that a memory is searched with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stream_vlm.config.settings import load_settings
from stream_vlm.memory.search.vectors import PictureEmbedder
from stream_vlm.memory.storage.errors import RecallError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load_looker(directory: Path | None) -> PictureEmbedder:
    """The model in `directory`, the shipped one where that is None.

    Raises:
        CheckpointError: it cannot be loaded.
        RecallError: it says nothing of a picture but words.
    """
    # Loading torch takes seconds: who asks with words does not wait for it.
    from stream_vlm.backbone import load_model

    model = load_model(
        load_settings({"model.directory": str(directory.expanduser()) if directory else ""})
    )
    if not isinstance(model, PictureEmbedder):
        raise RecallError(
            f"{model.model_id}: gives no vectors of pictures; take a Qwen2.5-VL or Qwen3-VL"
        )
    return model


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture in the file `path`, uint8 RGB (H, W, 3).

    Raises:
        RecallError: there is no such file, or it is no picture.
    """
    from stream_vlm.memory.storage.thumbnails import decoded

    try:
        file = path.expanduser().read_bytes()
    except OSError as error:
        raise RecallError(
            f"{path}: cannot be read ({error.strerror}); give the file of a JPEG or PNG"
        ) from error
    return decoded(file, str(path))
