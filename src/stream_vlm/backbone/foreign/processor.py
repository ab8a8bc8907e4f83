"""Loads the processor of a checkpoint, which makes inputs from text and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError

ONE_TILE = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")
"""Options of image processors that cut a picture into tiles, each with as many tokens as the whole.

Idefics and SmolVLM, InternVL, and Gemma 3 have one of them. A stream shows every picture whole.
"""


def load_processor(directory: Path, name: str) -> Any:
    """Load the processor of a checkpoint.

    Args:
        directory: directory of the checkpoint.
        name: name of the checkpoint, for messages.

    Raises:
        CheckpointError: a library is missing, a file is damaged, or the processor does not take
            pictures and text together.
    """
    try:
        processor = _load(directory)
    except ImportError as error:
        raise missing_library(name, error) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{name}: its processor cannot be loaded: {error}; copy preprocessor_config.json and"
            " the tokenizer again"
        ) from error
    if (
        getattr(processor, "tokenizer", None) is None
        or getattr(processor, "image_processor", None) is None
    ):
        raise CheckpointError(
            f"{name}: {type(processor).__name__} does not take pictures and text together; copy"
            " processor_config.json and preprocessor_config.json from the checkpoint's origin"
        )
    return processor


def _load(directory: Path) -> Any:
    try:
        processor: Any = AutoProcessor.from_pretrained(directory, local_files_only=True)
    except (ImportError, ValueError) as error:
        if "torchvision" not in str(error).lower():
            raise
        # Processors of videos need torchvision, but a stream shows still pictures only.
        kind: Any = PROCESSOR_MAPPING.get(
            type(AutoConfig.from_pretrained(directory, local_files_only=True)), None
        )
        if kind is None or "video_processor" not in kind.get_attributes():
            raise ImportError(str(error)) from error
        processor = _without_videos(kind).from_pretrained(directory, local_files_only=True)
    return processor


class NoVideos(dict[str, object]):
    """Stands for a processor of videos that is left out: each of its settings is None.

    The processor of SmolVLM reads such settings for chats without a video, too. It is an empty
    mapping, because a processor is also written as JSON.
    """

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def _without_videos(kind: Any) -> Any:
    """A class like the processor `kind`, but without its processor of videos."""
    parts = kind.get_attributes()

    class StillPictures(kind):  # type: ignore[misc]  # the base is only known when it runs
        @classmethod
        def get_attributes(cls) -> list[str]:
            return list(parts)

        @classmethod
        def _get_arguments_from_pretrained(
            cls, directory: Any, processor_dict: Any = None, **options: Any
        ) -> list[Any]:
            classes: dict[str, Any] = {
                "image_processor": AutoImageProcessor,
                "tokenizer": AutoTokenizer,
            }
            return [
                classes[part].from_pretrained(directory, **options)
                if part in classes
                else NoVideos()
                for part in parts
            ]

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, NoVideos):
                return NoVideos
            return super().check_argument_for_proper_class(argument_name, argument)

    StillPictures.__name__ = kind.__name__
    return StillPictures


def whole_picture_options(processor: Any) -> dict[str, bool]:
    """Options of a call of `processor` that keep a picture in one tile."""
    known = processor.image_processor
    return {option: False for option in ONE_TILE if hasattr(known, option)}


def missing_library(name: str, error: ImportError) -> CheckpointError:
    """The error for a missing library; for torchvision, how to install it without a new torch."""
    said = " ".join(str(error).split())
    if "torchvision" in said.lower():
        release = torch.__version__.partition("+")[0]
        return CheckpointError(
            f"{name}: its processor needs torchvision, which is not installed ({said[:160]});"
            f" install the release for torch {release} with 'pip install --no-deps torchvision',"
            " or use a checkpoint whose processor works without it"
        )
    return CheckpointError(
        f"{name}: its processor needs a library that is not installed: {said[:300]}"
    )
