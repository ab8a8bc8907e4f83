"""The length of the context that a fine-tuned model can have within its positions."""

from __future__ import annotations

from collections.abc import Sequence

from stream_vlm.backbone.checkpoint.stream_config import StreamConfig
from stream_vlm.backbone.streaming.context_budget import plan_context
from stream_vlm.backbone.streaming_model import StreamingModel
from stream_vlm.sources import SourceError
from stream_vlm_lab.training.data.sample import StreamSample, VideoFolder

BY_TURNS = ("last_turns", "chunked")
"""Policies whose context is `max_turns` long; the windows of the others have settings of their own.
"""


def within_positions(
    streaming: StreamingModel, samples: Sequence[StreamSample], videos: VideoFolder
) -> StreamConfig:
    """Return the stream configuration with as many turns as the model has positions for.

    A longer context would be cut when the node loads the result, and chunks of that length would
    not fit into a training sequence. `keep_turns` is shortened by the same share.

    Args:
        streaming: the checkpoint.
        samples: the training samples; the first picture that decodes gives the picture size.
        videos: where the videos of the samples are.

    Raises:
        ContextTooLong: not even two turns fit into the positions that the model was trained for.
    """
    stream, pictures = streaming.checkpoint.stream, streaming.checkpoint.pictures
    if stream.policy not in BY_TURNS:
        return stream
    tokens = pictures.fewest_tokens
    for sample in samples:
        try:
            shown = next(videos.pictures(sample)).image
        except (SourceError, StopIteration):
            continue  # the row is refused with its reason when it is trained on
        rows, columns = pictures.grid(*pictures.target_size(*shown.shape[:2]))
        tokens = rows * columns
        break
    turns = plan_context(streaming.parts, tokens).policy.most_turns
    if turns >= stream.max_turns:
        return stream
    kept = max(1, round(turns * stream.keep_turns / stream.max_turns))
    return stream.model_copy(update={"max_turns": turns, "keep_turns": kept})
