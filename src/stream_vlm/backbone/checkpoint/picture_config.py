"""Reads the picture format of a checkpoint from the configuration of its processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stream_vlm.backbone.checkpoint.stream_config import FILE_NAME, CheckpointError, StreamConfig
from stream_vlm.unicode_text import read_json
from stream_vlm.vision.preprocess import PictureFormat

MOST_TOKENS = 128
"""The most vision tokens of a picture.

Published checkpoints allow millions of pixels, which is too slow for a stream.
"""


PLACES = (
    ("preprocessor_config.json", ""),
    ("processor_config.json", "image_processor"),
    ("processor_config.json", "video_processor"),
    ("processor_config.json", ""),
    ("video_preprocessor_config.json", ""),
)
"""Files that describe the pictures, and the name of the part that does; the first one counts.

transformers 5 saves one file for the whole processor, with the parts nested in it.
"""


def read_picture_format(
    directory: Path, config: StreamConfig, most_tokens: int = MOST_TOKENS
) -> PictureFormat:
    """Read the picture format from the files of `PLACES` and the stream configuration.

    The pixel budget is in `min_pixels` and `max_pixels` (Qwen2.5-VL), or in `shortest_edge` and
    `longest_edge` of `size`, which also count the pixels of the whole picture (Qwen3-VL).

    Args:
        directory: the directory of the checkpoint.
        config: its stream configuration.
        most_tokens: the most vision tokens of a picture (`vision.max_tokens`).

    Raises:
        CheckpointError: the file is missing, unreadable or lacks a field.
    """
    path, values = _picture_values(directory)
    try:
        if config.frames_per_turn > values["temporal_patch_size"]:
            raise CheckpointError(
                f"{config.name}: frames_per_turn {config.frames_per_turn} do not fit into a"
                f" temporal patch of {values['temporal_patch_size']} frames; lower it in"
                f" {FILE_NAME}"
            )
        unit = values["patch_size"] * values["merge_size"]
        size = values.get("size") or {}
        most = values.get("max_pixels") or size.get("longest_edge") or most_tokens * unit * unit
        max_pixels = min(most, most_tokens * unit * unit)
        return PictureFormat(
            patch_size=values["patch_size"],
            merge_size=values["merge_size"],
            temporal_patch_size=values["temporal_patch_size"],
            mean=tuple(values["image_mean"]),
            std=tuple(values["image_std"]),
            fixed_size=config.fixed_size,
            min_pixels=min(
                values.get("min_pixels") or size.get("shortest_edge") or 4 * unit * unit, max_pixels
            ),
            max_pixels=max_pixels,
            pair_frames=config.pair_frames,
            place_marks=config.place_marks,
        )
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{path}: {error!r}; copy the file again from the checkpoint's origin"
        ) from error


def _picture_values(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The first description of pictures in `directory`, and the file that holds it.

    Raises:
        CheckpointError: there is none, or a file cannot be read.
    """
    for name, part in PLACES:
        path = directory / name
        if not path.is_file():
            continue
        try:
            document = read_json(path)
            values = document[part] if part else document
        except KeyError:
            continue
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path}: {error!r}; copy the file again from the checkpoint's origin"
            ) from error
        if isinstance(values, dict) and (
            "patch_size" in values or name == "preprocessor_config.json"
        ):
            return path, values
    raise CheckpointError(
        f"{directory / PLACES[0][0]}: missing, and no processor_config.json describes the pictures"
        " either; copy one of them from the checkpoint's origin"
    )
