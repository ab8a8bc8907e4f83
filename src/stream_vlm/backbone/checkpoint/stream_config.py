"""What a checkpoint says about streaming: turn format, picture size and context length, in
`stream_config.json` beside its weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from transformers import PreTrainedTokenizerBase

from stream_vlm.config.model_settings import ContextSettings
from stream_vlm.context.policies.last_frames import LastFramesPolicy
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy, RoundsPolicy
from stream_vlm.context.policies.sliding import SlidingPolicy
from stream_vlm.context.turn_formats import FORMATS, TurnFormat
from stream_vlm.types import State, StreamError
from stream_vlm.vision.preprocess import PictureFormat

FILE_NAME = "stream_config.json"


class CheckpointError(StreamError):
    """A checkpoint directory that cannot be used; the message names the directory, what is wrong
    and the remedy.
    """


def _named(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in FORMATS:
        raise ValueError(
            f"turn format {value!r} is unknown; name one of {', '.join(FORMATS)} or write its"
            " pieces out"
        )
    return FORMATS[value]


class SlidingSettings(BaseModel):
    """Windows of the sliding policy (`context/policies/sliding.py`), in turns and tokens; the
    defaults are StreamingVLM's.

    Attributes:
        compatible: True follows the published inference code, its faults included.
    """

    model_config = ConfigDict(extra="forbid")

    vision_turns: int = Field(default=16, ge=1)
    text_turns: int = Field(default=16, ge=2)
    text_sink: int = Field(default=512, ge=0)
    text_window: int = Field(default=512, ge=1)
    compatible: bool = False


class StreamConfig(BaseModel):
    """How a checkpoint was made to watch.

    Attributes:
        name: what memory records call the model.
        turns: how a tick is written down, or the name of one of `FORMATS`.
        fixed_size: (height, width) pixels that pictures are stretched to, or None to keep their
            proportions within the checkpoint's budget.
        pair_frames: True when a temporal patch holds the previous and the current picture.
        place_marks: True when the first pixel of every patch says where the patch lies
            (`vision/preprocess.py`).
        frames_per_turn: frames that one turn shows together, as one temporal patch.
        rate_hz: frames a second it was trained at.
        policy: context policy it was trained for.
        activity_threshold: probability of anything happening below which it does not speak unasked;
            found on streams that neither trained nor examine it.
        max_turns, keep_turns: longest context in turns, and what is left of it after trimming.
        sliding: the windows of the sliding policy.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    name: str
    turns: Annotated[TurnFormat, BeforeValidator(_named)]
    fixed_size: tuple[int, int] | None = None
    pair_frames: bool = False
    place_marks: bool = False
    frames_per_turn: int = Field(default=1, ge=1)
    rate_hz: float = Field(default=1.0, gt=0)
    policy: Literal["last_turns", "chunked", "sliding", "last_frames"] = "last_turns"
    max_turns: int = Field(default=120, ge=2)
    keep_turns: int = Field(default=90, ge=1)
    activity_threshold: float = Field(default=0.0, ge=0, le=1)

    sliding: SlidingSettings = Field(default_factory=SlidingSettings)

    @model_validator(mode="after")
    def _one_way_to_pair(self) -> StreamConfig:
        if self.pair_frames and self.frames_per_turn > 1:
            raise ValueError(
                "pair_frames and frames_per_turn above 1 both fill the temporal patch; choose one"
            )
        return self

    def context_policy(
        self,
        chosen: ContextSettings,
        rate_hz: float,
        turn_tokens: int,
        head_tokens: int,
        reply_tokens: int,
        room: int | None = None,
    ) -> ContextPolicy:
        """The policy in force.

        Args:
            chosen: what the settings say; `max_seconds` 0 takes the checkpoint's own length.
            rate_hz: ticks a second.
            turn_tokens: tokens of a silent turn.
            head_tokens: tokens of the head.
            reply_tokens: tokens of the longest reply.
            room: the most tokens that it may keep, where that is limited already.
        """
        name = self.policy if chosen.policy == "auto" else chosen.policy
        if name == "last_frames":
            # Beside the pictures there is room for a reply, and 512 tokens for what is asked.
            return LastFramesPolicy(
                chosen.frames, head_tokens + chosen.frames * turn_tokens + reply_tokens + 512
            )
        asked_turns = (
            max(2, round(chosen.max_seconds * rate_hz / self.frames_per_turn))
            if chosen.max_seconds > 0
            else None
        )
        if name == "sliding":
            return self._sliding_policy(asked_turns, turn_tokens, head_tokens, reply_tokens, room)
        max_turns = asked_turns or self.max_turns
        keep_turns = (
            max(1, round(asked_turns * self.keep_turns / self.max_turns))
            if asked_turns
            else self.keep_turns
        )
        # Room for words beyond silent turns: a quarter more, and at least 256 tokens.
        max_tokens = _within(
            room, head_tokens + max_turns * turn_tokens + max(256, max_turns * turn_tokens // 4)
        )
        if name == "chunked":
            return ChunkedPolicy(max_turns, max_tokens)
        return RoundsPolicy(max_turns, keep_turns, max_tokens)

    def _sliding_policy(
        self,
        asked_turns: int | None,
        turn_tokens: int,
        head_tokens: int,
        reply_tokens: int,
        room: int | None,
    ) -> SlidingPolicy:
        windows = self.sliding
        vision_turns, text_turns = (
            asked_turns or windows.vision_turns,
            asked_turns or windows.text_turns,
        )
        # Every reply of the window may be as long as it gets, and 256 tokens are for the query that
        # is remembered.
        turns = max(vision_turns, text_turns) * turn_tokens + (text_turns + 1) * reply_tokens
        max_tokens = _within(
            room, head_tokens + windows.text_sink + windows.text_window + turns + 256
        )
        return SlidingPolicy(
            vision_turns,
            text_turns,
            windows.text_sink,
            windows.text_window,
            max_tokens,
            windows.compatible,
        )


def _within(room: int | None, tokens: int) -> int:
    return tokens if room is None else min(room, tokens)


MADE_FOR: dict[str, dict[str, Any]] = {
    "streaming_vlm": {"frames_per_turn": 2, "rate_hz": 2.0, "policy": "sliding"},
    # A chunk of 200 s, one frame a second.
    "harness": {"rate_hz": 1.0, "policy": "chunked", "max_turns": 200},
}
"""What models of a turn format were made for besides, where that is not the default."""

TUNED = ("streamo", "harness")
"""Formats that a tokenizer gives away, because tuning added their state markers as tokens."""


def read_stream_config(
    directory: Path, tokenizer: PreTrainedTokenizerBase, turns: str = "auto"
) -> StreamConfig:
    """How the checkpoint in `directory` was made to watch.

    Args:
        turns: the setting `model.prompt_format`. auto takes the directory's `stream_config.json`;
            without one, the format whose markers the tokenizer has, else plain words. The name of a
            format overrides the turns of that file and whatever such models were made for.

    Raises:
        CheckpointError: the file is not valid, and the message names the field; or the tokenizer
            has no markers of the format that is asked for.
    """
    path = directory / FILE_NAME
    known = tokenizer.get_vocab()
    if turns != "auto":
        markers = [FORMATS[turns].marker(state) for state in State if FORMATS[turns].marker(state)]
        absent = [marker for marker in markers if marker.startswith("</") and marker not in known]
        if absent:
            pieces = tokenizer.tokenize(absent[0])
            raise CheckpointError(
                f"model.prompt_format {turns!r}: the tokenizer in {directory} has no {absent[0]} as"
                f" one token (it makes {len(pieces)} of it: {' '.join(pieces)}), so the model was not"
                " tuned with it; set model.prompt_format to auto or prompted, or fine-tune it with"
                f" `stream-vlm train {directory} DATA --turns {turns} --add-markers`"
            )
    written: dict[str, Any] = {}
    if path.is_file():
        try:
            config = StreamConfig.model_validate_json(path.read_text())
        except ValidationError as error:
            detail = error.errors()[0]
            field = ".".join(str(part) for part in detail["loc"])
            raise CheckpointError(
                f"{path}: {field or 'content'}: {detail['msg']}; mend the file or remove it"
            ) from error
        if turns == "auto":
            return config
        written = config.model_dump(exclude={"turns"})
    if turns == "auto":
        turns = next((name for name in TUNED if _is_tuned(FORMATS[name], known)), "prompted")
    fields = {"name": directory.name} | written | MADE_FOR.get(turns, {}) | {"turns": turns}
    try:
        return StreamConfig.model_validate(fields)
    except ValidationError as error:
        raise CheckpointError(
            f"model.prompt_format {turns!r} does not go with {path}: {error.errors()[0]['msg']};"
            " set model.prompt_format to auto"
        ) from error


def _is_tuned(turns: TurnFormat, known: dict[str, int]) -> bool:
    return all(turns.marker(state) in known for state in State if turns.marker(state))


MOST_TOKENS = 128
"""Vision tokens of a picture at most: hub checkpoints allow pictures of millions of pixels, which a
stream cannot afford.
"""


def read_picture_format(directory: Path, config: StreamConfig) -> PictureFormat:
    """Picture format from the checkpoint's `preprocessor_config.json` and its stream configuration.

    The pixel budget stands there as `min_pixels` and `max_pixels` (Qwen2.5-VL) or as `size` with
    `shortest_edge` and `longest_edge`, which are pixels of the whole picture, too (Qwen3-VL).

    Raises:
        CheckpointError: the file is missing, unreadable or lacks a field.
    """
    path = directory / "preprocessor_config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        if config.frames_per_turn > values["temporal_patch_size"]:
            raise CheckpointError(
                f"{config.name}: frames_per_turn {config.frames_per_turn} do not fit into a"
                f" temporal patch of {values['temporal_patch_size']} frames; lower it in"
                f" {FILE_NAME}"
            )
        unit = values["patch_size"] * values["merge_size"]
        size = values.get("size") or {}
        most = values.get("max_pixels") or size.get("longest_edge") or MOST_TOKENS * unit * unit
        max_pixels = min(most, MOST_TOKENS * unit * unit)
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
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; copy it from the checkpoint's origin") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: {error!r}; copy the file anew from the checkpoint's origin"
        ) from error
