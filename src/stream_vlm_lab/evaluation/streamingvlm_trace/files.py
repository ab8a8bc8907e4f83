"""Reads recorded StreamingVLM runs: inputs, cache content and outputs of every round."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError, model_validator

from stream_vlm.types import StreamError
from stream_vlm.unicode_text import read_json

RAGGED = ("kept_src", "new_ids", "input_ids", "gen_ids", "pos_prefill", "pos_all")
"""Arrays with a different length in each round: round i is [..., NAME_off[i]:NAME_off[i + 1]]."""
BY_ROUND = ("kv_len_evicted", "kv_len_after", "logits_first", "grid_thw")
REQUIRED = (*RAGGED, *(f"{name}_off" for name in RAGGED), *BY_ROUND, "stream_ids", "final_kept_src")


class TraceError(StreamError):
    """A recorded run cannot be replayed; the message names the file and the remedy."""


class TraceSettings(BaseModel):
    """Settings of a recorded run.

    A round lasts one second, positions are contiguous, and decoding is greedy.

    Attributes:
        rounds: number of rounds.
        window_size: rounds that keep their vision tokens.
        text_round: rounds that keep their text.
        text_sink: first tokens of the previous text that are kept; None if it was never cut.
        text_sliding_window: last tokens of the previous text that are kept; None if it was never
            cut.
        fps: frames of a round.
        max_new_tokens: most tokens of a reply.
        repetition_penalty: penalty of repeated tokens; 1.0 for none.
        previous_text: text before the first round.
        query: question in the first round.
        frames: name of the file with the frames.
        special_ids: token ids by text; they tell whether a checkpoint is the one of the run.
    """

    rounds: int = Field(ge=1)
    window_size: int = Field(ge=1)
    text_round: int = Field(ge=1)
    text_sink: int | None = Field(ge=0)
    text_sliding_window: int | None = Field(ge=1)
    chunk_duration: Literal[1] = 1
    fps: int = Field(ge=1)
    pos_mode: Literal["shrink"] = "shrink"
    do_sample: Literal[False] = False
    max_new_tokens: int = Field(ge=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    previous_text: str | None = ""
    query: str | None = ""
    frames: str
    special_ids: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sink_with_window(self) -> TraceSettings:
        if (self.text_sink is None) != (self.text_sliding_window is None):
            raise ValueError(
                "text_sink and text_sliding_window must both be numbers or both be null"
            )
        return self


@dataclass(frozen=True)
class Trace:
    """One recorded run.

    Attributes:
        name: name of the run.
        settings: settings of the run.
        arrays: the recorded values by name.
        frames: uint8 RGB (rounds * fps, H, W, 3).
        vision: (rounds, tokens, hidden) vision tokens of each round; None if they were not
            recorded.
    """

    name: str
    settings: TraceSettings
    arrays: Mapping[str, NDArray[Any]]
    frames: NDArray[np.uint8]
    vision: NDArray[np.float32] | None

    def ragged(self, name: str, number: int) -> NDArray[Any]:
        """The part of array `name` that belongs to round `number`."""
        offsets = self.arrays[f"{name}_off"]
        return self.arrays[name][..., offsets[number] : offsets[number + 1]]


def find_traces(folder: Path) -> list[Path]:
    """Find the traces in `folder`: every NAME.json with a NAME.npz beside it.

    Raises:
        TraceError: the folder does not exist, has no trace, or one file of a trace is missing.
    """
    if not folder.is_dir():
        raise TraceError(
            f"{folder}: no such folder; give one with trace_NAME.json and trace_NAME.npz files"
        )
    found = sorted(
        path
        for path in folder.glob("*.json")
        if path.with_suffix(".npz").is_file() or path.stem.startswith("trace_")
    )
    for path in (*found, *sorted(folder.glob("trace_*.npz"))):
        for partner in (path.with_suffix(".json"), path.with_suffix(".npz")):
            if not partner.is_file():
                raise TraceError(
                    f"{path}: its {partner.name} is missing; copy it from where the trace comes"
                    " from"
                )
    if not found:
        raise TraceError(
            f"{folder}: contains no trace; give a folder with trace_NAME.json and trace_NAME.npz"
            " files"
        )
    return found


def read_trace(path: Path) -> Trace:
    """Read the trace whose settings are in `path`.

    Raises:
        TraceError: a file is missing, unreadable, or does not match the others.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise TraceError(f"{path}: cannot be read: {error}; copy it again") from error
    try:
        settings = TraceSettings.model_validate(content)
    except ValidationError as error:
        detail = error.errors()[0]
        raise TraceError(
            f"{path}: {'.'.join(str(step) for step in detail['loc']) or 'content'}:"
            f" {detail['msg']}; correct the file"
        ) from error
    arrays = _read_arrays(path.with_suffix(".npz"), REQUIRED)
    _check(path.with_suffix(".npz"), settings, arrays)
    source = path.parent / settings.frames
    pictures = _read_arrays(source, ("frames",))
    frames = pictures["frames"]
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or frames.shape[3] != 3
        or len(frames) < settings.rounds * settings.fps
    ):
        expected = f"uint8 ({settings.rounds * settings.fps}, H, W, 3)"
        raise TraceError(
            f"{source}: frames are {frames.dtype} {frames.shape}, not {expected} as {path.name}"
            " requires; copy the right file"
        )
    return Trace(
        path.stem.removeprefix("trace_"), settings, arrays, frames, pictures.get("vision_embeds")
    )


def _read_arrays(path: Path, required: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        # Archives can come from anywhere, so pickled objects, which could run code, are refused.
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise TraceError(f"{path}: is not an archive of arrays; copy it again")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise TraceError(
            f"{path}: no such file; copy it from where the trace comes from"
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TraceError(f"{path}: is damaged ({error}); copy it again") from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise TraceError(f"{path}: has no array {missing[0]!r}; record the trace again")
    return arrays


def _check(path: Path, settings: TraceSettings, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name in RAGGED:
        values, offsets = arrays[name], arrays[f"{name}_off"]
        is_valid = (
            offsets.shape == (settings.rounds + 1,)
            and offsets[0] == 0
            and bool((np.diff(offsets) >= 0).all())
        )
        if not is_valid or values.ndim < 1 or offsets[-1] != values.shape[-1]:
            raise TraceError(
                f"{path}: {name}_off does not divide {name} {values.shape} into {settings.rounds}"
                " rounds; record the trace again"
            )
    if bool((np.diff(arrays["gen_ids_off"]) < 1).any()):
        raise TraceError(
            f"{path}: gen_ids has a round without generated tokens; record the trace again"
        )
    for name in BY_ROUND:
        if arrays[name].ndim != 2 or len(arrays[name]) != settings.rounds:
            raise TraceError(
                f"{path}: {name} is {arrays[name].shape}, but needs {settings.rounds} rows, one"
                " for each round; record the trace again"
            )
