"""Reads `stream_config.json` of a checkpoint: turn format, pictures and context policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from transformers import PreTrainedTokenizerBase

from stream_vlm.config.model_settings import ContextSettings
from stream_vlm.context.policies.last_frames import LastFramesPolicy
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy, LastTurnsPolicy
from stream_vlm.context.policies.sliding import SlidingPolicy
from stream_vlm.context.turn_formats import FORMATS, TurnFormat
from stream_vlm.types import State, StreamError
from stream_vlm.unicode_text import read_text

FILE_NAME = "stream_config.json"


class CheckpointError(StreamError):
    """A checkpoint cannot be used; the message names the directory, the fault and the remedy."""


def _named(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in FORMATS:
        raise ValueError(
            f"turn format {value!r} is unknown; name one of {', '.join(FORMATS)} or give all"
            " fields of a format"
        )
    return FORMATS[value]


class SlidingSettings(BaseModel):
    """Windows of the sliding policy; the defaults are those of StreamingVLM.

    See `context.policies.sliding.SlidingPolicy`.

    Attributes:
        vision_turns: turns that keep their picture.
        text_turns: turns that keep their words.
        text_sink: first tokens of the previous text that always stay.
        text_window: last tokens of the previous text that stay.
        compatible: True follows the published inference code with its faults.
    """

    model_config = ConfigDict(extra="forbid")

    vision_turns: int = Field(default=16, ge=1)
    text_turns: int = Field(default=16, ge=2)
    text_sink: int = Field(default=512, ge=0)
    text_window: int = Field(default=512, ge=1)
    compatible: bool = False


class StreamConfig(BaseModel):
    """The streaming part of a checkpoint's configuration.

    Attributes:
        format_version: version of this file format.
        name: name of the model in memory records.
        turns: the turn format, or the name of one of `FORMATS`.
        fixed_size: (height, width) in pixels to which pictures are stretched, or None to keep their
            aspect ratio within the checkpoint's pixel budget.
        pair_frames: whether a temporal patch contains the previous and the current picture.
        place_marks: whether the first pixel of each patch encodes its row and column (see
            `vision.preprocess.PictureFormat.mark_places`).
        frames_per_turn: number of frames in each turn, as one temporal patch.
        rate_hz: frames a second in training.
        policy: context policy in training.
        activity_threshold: calibrated minimum probability that anything happens to speak
            unprompted; 0 means uncalibrated. It is calibrated on streams that are used neither for
            training nor for evaluation.
        temperature, repetition_penalty: how words are drawn unless the settings `sampling` say.
        max_turns: the most turns in the context.
        keep_turns: the turns that are kept when the context is trimmed.
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
    temperature: float = Field(default=0.0, ge=0, le=2)
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)

    sliding: SlidingSettings = Field(default_factory=SlidingSettings)

    @model_validator(mode="after")
    def _one_way_to_pair(self) -> StreamConfig:
        if self.pair_frames and self.frames_per_turn > 1:
            raise ValueError(
                "pair_frames and frames_per_turn above 1 both fill the temporal patch; use only one"
            )
        return self

    def context_policy(
        self,
        chosen: ContextSettings,
        rate_hz: float,
        turn_tokens: int,
        prefix_tokens: int,
        reply_tokens: int,
        room: int | None = None,
        most_turns: int | None = None,
    ) -> ContextPolicy:
        """Make the context policy.

        Args:
            chosen: the settings `context`; `max_seconds` 0 takes the checkpoint's own length.
            rate_hz: ticks a second.
            turn_tokens: tokens of a silent turn.
            prefix_tokens: the most tokens of the prefix.
            reply_tokens: tokens of the longest reply.
            room: the most tokens of the context, if it is limited.
            most_turns: the most turns, if the model's positions limit them.
        """
        name = self.policy if chosen.policy == "auto" else chosen.policy
        if name == "last_frames":
            # Besides the pictures there is room for a reply, and 512 tokens for a question.
            frames = _within(most_turns, chosen.frames)
            most = prefix_tokens + frames * turn_tokens + reply_tokens + 512
            return LastFramesPolicy(frames, _within(room, most))
        asked_turns = (
            max(2, round(chosen.max_seconds * rate_hz / self.frames_per_turn))
            if chosen.max_seconds > 0
            else None
        )
        if name == "sliding":
            return self._sliding_policy(
                asked_turns, turn_tokens, prefix_tokens, reply_tokens, room, most_turns
            )
        max_turns = _within(most_turns, asked_turns or self.max_turns)
        keep_turns = (
            self.keep_turns
            if max_turns == self.max_turns
            else max(1, round(max_turns * self.keep_turns / self.max_turns))
        )
        # Room for words in addition to silent turns: a quarter more, and at least 256 tokens.
        max_tokens = _within(
            room, prefix_tokens + max_turns * turn_tokens + max(256, max_turns * turn_tokens // 4)
        )
        if name == "chunked":
            return ChunkedPolicy(max_turns, max_tokens)
        return LastTurnsPolicy(max_turns, keep_turns, max_tokens)

    def _sliding_policy(
        self,
        asked_turns: int | None,
        turn_tokens: int,
        prefix_tokens: int,
        reply_tokens: int,
        room: int | None,
        most_turns: int | None,
    ) -> SlidingPolicy:
        windows = self.sliding
        vision_turns, text_turns = (
            _within(most_turns, asked_turns or windows.vision_turns),
            _within(most_turns, asked_turns or windows.text_turns),
        )
        # Every reply of the window may have the full length, and 256 tokens are for the last query.
        turns = max(vision_turns, text_turns) * turn_tokens + (text_turns + 1) * reply_tokens
        max_tokens = _within(
            room, prefix_tokens + windows.text_sink + windows.text_window + turns + 256
        )
        return SlidingPolicy(
            vision_turns,
            text_turns,
            windows.text_sink,
            windows.text_window,
            max_tokens,
            windows.compatible,
        )


def _within(most: int | None, asked: int) -> int:
    return asked if most is None else min(most, asked)


MADE_FOR: dict[str, dict[str, Any]] = {
    # Words are drawn as in the published inference code.
    "streaming_vlm": {
        "frames_per_turn": 2,
        "rate_hz": 2.0,
        "policy": "sliding",
        "temperature": 0.9,
        "repetition_penalty": 1.05,
    },
    # A chunk has 200 s, with one frame a second.
    "harness": {"rate_hz": 1.0, "policy": "chunked", "max_turns": 200},
}
"""Other fields of models with a turn format, if they differ from the defaults."""

TUNED = ("streamo", "harness")
"""Formats that can be recognised by their state markers, which are tokens of the tokenizer."""


def read_stream_config(
    directory: Path, tokenizer: PreTrainedTokenizerBase, turns: str = "auto"
) -> StreamConfig:
    """Read the stream configuration of a checkpoint, or derive it from the tokenizer.

    Args:
        directory: the directory of the checkpoint.
        tokenizer: its tokenizer.
        turns: the setting `model.prompt_format`. "auto" reads `stream_config.json`. Without this
            file it takes the format whose markers the tokenizer has, else `instruct`. The name of
            a format replaces `turns` of the file and the fields of `MADE_FOR`.

    Raises:
        CheckpointError: the file is not valid, and the message names the field; or the tokenizer
            does not have the markers of the chosen format.
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
                f" one token (it splits it into {len(pieces)}: {' '.join(pieces)}), so the model"
                " was not tuned with it; set model.prompt_format to auto or instruct, or fine-tune"
                f" it with `stream-vlm train {directory} DATA --turns {turns} --add-markers`"
            )
    written: dict[str, Any] = {}
    if path.is_file():
        try:
            config = StreamConfig.model_validate_json(read_text(path))
        except ValidationError as error:
            detail = error.errors()[0]
            field = ".".join(str(part) for part in detail["loc"])
            raise CheckpointError(
                f"{path}: {field or 'content'}: {detail['msg']}; correct the file or remove it"
            ) from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}; correct the file or remove it") from error
        if turns == "auto":
            return config
        written = config.model_dump(exclude={"turns"})
    if turns == "auto":
        turns = next((name for name in TUNED if _is_tuned(FORMATS[name], known)), "instruct")
    fields = {"name": directory.name} | written | MADE_FOR.get(turns, {}) | {"turns": turns}
    try:
        return StreamConfig.model_validate(fields)
    except ValidationError as error:
        raise CheckpointError(
            f"model.prompt_format {turns!r} contradicts {path}: {error.errors()[0]['msg']}; set"
            " model.prompt_format to auto"
        ) from error


def _is_tuned(turns: TurnFormat, known: dict[str, int]) -> bool:
    return all(turns.marker(state) in known for state in State if turns.marker(state))
