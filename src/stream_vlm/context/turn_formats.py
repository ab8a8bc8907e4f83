"""Turn formats: how one tick is written as text, with markers around time, question and picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from stream_vlm.context.instructions import LABELS, SYSTEM
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.types import State

STREAMO_SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as"
    " <Xs-Ys>.\nAnswer every frame with exactly one of: </Silence> when nothing relevant happens,"
    " </Standby> while a relevant event is still under way, </Response> followed by one short"
    " sentence once an event is complete or a question can be answered from what was seen."
)
"""System prompt of three-state models tuned with Streamo's markers (arXiv 2512.21334)."""

HARNESS_SYSTEM = (
    "You watch a live video, one frame a second. Each frame is labelled with its time as <X"
    " seconds>.\nAnswer every frame with </silence> when there is nothing to say yet, or with"
    " </response> followed by what the viewer should hear now."
)
"""System prompt of two-state models tuned with Streaming Harness's markers (arXiv 2606.08615)."""


class TurnFormat(BaseModel):
    """The pieces of text around a picture; each piece is tokenized on its own.

    A turn is written as query, time marker, picture and decision.

    Attributes:
        system: the system prompt, which replaces `{system}` in `prefix`.
        prefix: the text that the context begins with, once.
        memory: text after `prefix` at the start of a chunk; `{memory}` is replaced by what was said
            before. Empty for a model that was not trained to read it.
        recalled: text before a question or a watch; `{memory}` is replaced by the lines that the
            memory found. Empty for a model that was not trained to read it.
        previous_close: text after the previous text, which follows `prefix` where the policy keeps
            the words of turns that have left.
        user_open, user_close: text around the user's part of a turn.
        query: text of a question; `{query}` is replaced by the user's words.
        watch: text of a watch, written once, in the turn at which the watch begins; `{query}` is
            replaced by the user's words. Empty for a model that cannot take a watch.
        instruct: True for an instruct model, which was not tuned for streams. Its context is one
            part of the user that grows by time markers and pictures. `action_open` and
            `action_close` are written only around an answer or a report: they close the user's
            part and open the next one. Instructions are judged in suffixes of the context that
            leave again (`TurnWriter.suffix`), so such a format has no `watch`.
        judges_unprompted: False for a model that decides only while a watch is active or a question
            is asked; at other times its pictures enter the context without a decision.
        query_after_frame: True if query and watch follow the picture, False if they come before the
            time marker.
        time: the time marker; `{start}` and `{end}` are whole seconds since the session began,
            `{time}` is the time of the turn's first picture in seconds with one decimal.
        frame_open, frame_close: text around the vision tokens.
        action_open, action_close: text around the model's part of a turn.
        silence, standby, response: what the model writes for each state. An empty `standby` means a
            two-state model. An empty `response` means that a response has no marker: every other
            first token begins a response.
        response_end: the token that ends the words of a response, before `action_close`; may be
            empty.
        stop: tokens that end an utterance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = ""
    prefix: str
    memory: str = ""
    recalled: str = ""
    previous_close: str = ""
    user_open: str
    user_close: str
    query: str
    watch: str = ""
    instruct: bool = False
    judges_unprompted: bool = True
    query_after_frame: bool = False
    time: str
    frame_open: str
    frame_close: str
    action_open: str = ""
    silence: str
    standby: str
    response: str
    response_end: str = ""
    action_close: str
    stop: list[str] = Field(min_length=1)

    def marker(self, state: State) -> str:
        """The text that the model writes for `state`."""
        return {
            State.SILENCE: self.silence,
            State.STANDBY: self.standby,
            State.RESPONSE: self.response,
        }[state]


@dataclass(frozen=True)
class TurnWriter:
    """Writes turns as segments.

    Attributes:
        turns: the format of the turns.
        encode: gives the token ids of a text; special tokens in the text become their ids.
        picture: id of the placeholder for one vision token.
    """

    turns: TurnFormat
    encode: Callable[[str], tuple[int, ...]]
    picture: int

    @property
    def memory_open(self) -> str:
        """The text before the lines of what was said; empty if the model does not read them."""
        return self.turns.memory.partition("{memory}")[0]

    @property
    def memory_close(self) -> str:
        """The text after these lines."""
        return self.turns.memory.partition("{memory}")[2]

    def prefix(self, previous_text: str = "") -> list[Segment]:
        """The segments that the context begins with, around `previous_text`."""
        return _filled(
            Segment(
                SegmentKind.PREFIX,
                -1,
                self.encode(self.turns.prefix.replace("{system}", self.turns.system)),
            ),
            Segment(SegmentKind.PREVIOUS, -1, self.encode(previous_text)),
            Segment(SegmentKind.PREFIX, -1, self.encode(self.turns.previous_close)),
        )

    def user(
        self,
        turn: int,
        start: int,
        end: int,
        grid: tuple[int, int],
        query: str = "",
        watch: str = "",
        *,
        time: float | None = None,
        recalled: str = "",
    ) -> list[Segment]:
        """The user's part of a turn, up to where the model writes.

        Args:
            turn: number of the turn.
            start: beginning of the picture's time, whole seconds since the session began.
            end: end of the picture's time, whole seconds since the session began.
            grid: (rows, columns) of the picture's merged vision tokens.
            query: words of a question, or empty.
            watch: words of a watch that begins with this turn, or empty.
            time: time of the turn's first picture, seconds since the session began; None for
                `start`.
            recalled: lines that the memory found for `query` and `watch`, or empty.
        """
        turns = self.turns
        question = turns.query.replace("{query}", query) if query else ""
        if recalled:
            question = question.removeprefix("\n")  # the lines end with a line break
        marker = turns.time.format(
            start=start, end=end, time=f"{start if time is None else time:.1f}"
        )
        is_open = bool(question) or not turns.instruct
        asked = [
            Segment(
                SegmentKind.RECALLED,
                turn,
                self.encode(turns.recalled.replace("{memory}", recalled)) if recalled else (),
            ),
            Segment(
                SegmentKind.WATCH,
                turn,
                self.encode(turns.watch.replace("{query}", watch)) if watch else (),
            ),
            Segment(SegmentKind.QUERY, turn, self.encode(question)),
        ]
        return _filled(
            Segment(SegmentKind.TEXT, turn, self.encode(turns.user_open)),
            *([] if turns.query_after_frame else asked),
            Segment(SegmentKind.TIME, turn, self.encode(marker)),
            Segment(SegmentKind.FRAME_MARK, turn, self.encode(turns.frame_open)),
            Segment(SegmentKind.FRAME, turn, (self.picture,) * (grid[0] * grid[1]), grid),
            Segment(SegmentKind.FRAME_MARK, turn, self.encode(turns.frame_close)),
            *(asked if turns.query_after_frame else []),
            Segment(SegmentKind.TEXT, turn, self.encode(turns.user_close)),
            Segment(
                SegmentKind.ACTION_MARK, turn, self.encode(turns.action_open) if is_open else ()
            ),
        )

    def suffix(self, turn: int, prompt: str) -> list[Segment]:
        """A question of ours after the newest picture, up to where an instruct model writes.

        Args:
            turn: number of the newest turn.
            prompt: the words of the question.
        """
        return _filled(
            Segment(SegmentKind.JUDGE, turn, self.encode(f"\n{prompt}")),
            Segment(SegmentKind.JUDGE, turn, self.encode(self.turns.action_open)),
        )

    def report(self, turn: int, words: str) -> list[Segment]:
        """What an instruct model said unasked at turn number `turn`, as a whole reply."""
        return _filled(
            Segment(SegmentKind.ACTION_MARK, turn, self.encode(self.turns.action_open)),
            Segment(SegmentKind.ACTION, turn, self.encode(words)),
            *self.close(turn),
        )

    def close(self, turn: int) -> list[Segment]:
        """The segments after the model's part of turn number `turn`."""
        return _filled(Segment(SegmentKind.ACTION_MARK, turn, self.encode(self.turns.action_close)))


def _filled(*segments: Segment) -> list[Segment]:
    return [segment for segment in segments if len(segment)]


def chatml(system: str, silence: str, standby: str, response: str) -> TurnFormat:
    """The chat format of the Qwen family, with one frame in each turn."""
    return TurnFormat(
        system=system,
        prefix="<|im_start|>system\n{system}<|im_end|>\n",
        memory="<|im_start|>user\n[Video History]\n{memory}<|im_end|>\n",
        recalled="[Video History]\n{memory}",
        user_open="<|im_start|>user\n",
        user_close="<|im_end|>\n",
        query="{query}\n",
        watch="{query}\n",
        time="<{start}s-{end}s>\n",
        frame_open="<|vision_start|>",
        frame_close="<|vision_end|>",
        action_open="<|im_start|>assistant\n",
        silence=silence,
        standby=standby,
        response=response,
        action_close="<|im_end|>\n",
        stop=["<|im_end|>", "<|endoftext|>"],
    )


STREAMO = chatml(STREAMO_SYSTEM, "</Silence>", "</Standby>", "</Response>")

INSTRUCT = TurnFormat(
    system=SYSTEM,
    prefix="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n",
    memory="[Video History]\n{memory}",
    recalled="\n[Video History]\n{memory}",
    user_open="",
    user_close="",
    query="\n{query}",
    instruct=True,
    judges_unprompted=False,
    query_after_frame=True,
    time="<{time} seconds>",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    action_open="<|im_end|>\n<|im_start|>assistant\n",
    silence=LABELS[State.SILENCE],
    standby=LABELS[State.STANDBY],
    response=LABELS[State.RESPONSE],
    action_close="<|im_end|>\n<|im_start|>user\n",
    stop=["<|im_end|>", "<|endoftext|>"],
)
"""The format of instruct models that were not tuned for streams.

The context is one part of the user, as these models were trained to see a video: a time marker and
a picture for each turn. The time marker is that of Qwen3-VL.
"""

PLAIN_TIME = "{time} s"
"""Time marker for Qwen2.5-VL, which had no time in words in its training: as short as possible."""

COMPACT = TurnFormat(
    prefix="<|im_start|>",
    user_open="",
    user_close="",
    query="<|im_start|>{query}",
    time="",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    silence="</Silence>",
    standby="</Standby>",
    response="</Response>",
    action_close="<|im_end|>",
    stop=["<|im_end|>"],
)
"""The shipped model's format: a turn is only a picture, its markers and the state marker."""

STREAMING_VLM = TurnFormat(
    system="You are a helpful assistant.",
    prefix="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>previous text\n",
    previous_close="<|im_end|>\n",
    user_open="<|im_start|>user\n",
    user_close="<|im_end|>\n",
    query="{query}",
    watch="{query}",
    query_after_frame=True,
    time="Time={start}.0-{end}.0s",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    action_open="<|im_start|>assistant\n",
    silence="...",
    standby="",
    response="",
    response_end=" ...",
    action_close="<|im_end|>\n",
    stop=["<|im_end|>", "<|endoftext|>"],
)
"""StreamingVLM's format (arXiv 2510.09608): one second of video in each turn.

A response ends with an ellipsis; an ellipsis alone is silence.
"""

HARNESS = chatml(HARNESS_SYSTEM, "</silence>", "", "</response>").model_copy(
    update={"time": "<{start}.0 seconds>\n", "judges_unprompted": False}
)
"""Streaming Harness's format (arXiv 2606.08615): one second and one frame in each turn, two states.

The model stays silent until there is a question or a watch.
"""

FORMATS = {
    "streamo": STREAMO,
    "instruct": INSTRUCT,
    "compact": COMPACT,
    "streaming_vlm": STREAMING_VLM,
    "harness": HARNESS,
}
"""Formats that `stream_config.json` and `model.prompt_format` can name."""


def for_architecture(turns: TurnFormat, model_type: str) -> TurnFormat:
    """The format `turns` with the time marker that a model of `model_type` knows.

    Only `INSTRUCT` differs between architectures.
    """
    if turns == INSTRUCT and model_type != "qwen3_vl":
        return turns.model_copy(update={"time": PLAIN_TIME})
    return turns
