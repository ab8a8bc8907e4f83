"""How a tick is written down for a model: the markers around time, question, picture and answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.types import State

STREAMO_SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as"
    " <Xs-Ys>.\nAnswer every frame with exactly one of: </Silence> when nothing relevant happens,"
    " </Standby> while a relevant event is still under way, </Response> followed by one short"
    " sentence once an event is complete or a question can be answered from what was seen."
)
"""Instruction for three-state models that were tuned with Streamo's markers (arXiv 2512.21334)."""

PROMPTED_SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as <Xs-Ys>."
    " You may be told what to watch for.\nBegin every reply with exactly one word: Silence while"
    " there is nothing to report, Standby while what you watch for is still under way, Response"
    " followed by one short sentence once it has happened, or to answer a question from what was"
    " seen."
)
"""Instruction for a model that was never tuned for streams: plain words stand for the states."""

PROMPTED_WATCH = (
    "From this frame on, watch for the following and report it each time it happens: {query}\n"
)
PROMPTED_JUDGE = (
    "Has what you watch for happened in this frame? Reply Silence, Standby, or Response and one"
    " short sentence.\n"
)
"""The event-driven protocol that makes any model watch (Streaming Harness, arXiv 2606.08615): every
picture is judged by what was asked for.
"""


HARNESS_SYSTEM = (
    "You watch a live video, one frame a second. Each frame is labelled with its time as <X"
    " seconds>.\nAnswer every frame with </silence> when there is nothing to say yet, or with"
    " </response> followed by what the viewer should hear now."
)
"""Instruction for two-state models that were tuned with Streaming Harness's markers (arXiv
2606.08615).
"""


class TurnFormat(BaseModel):
    """The pieces of text around a frame; a tick is query + time + frame + decision, and each piece
    is tokenized on its own.

    Attributes:
        head: what the context begins with, once.
        memory: what was said before, after the head of a chunk; `{memory}` stands for it. Empty for
            a model that was not made to read it.
        remembered: what the memory brings to a question or a watch, before its words; `{memory}`
            stands for the lines. Empty for a model that was not made to read it.
        previous_close: after the words of turns that have left, which follow the head where the
            policy keeps them.
        user_open, user_close: around the user's part of a turn.
        query: a question; `{query}` stands for the user's words.
        watch: what to wait for, once, in the turn from which on it is waited for; `{query}` stands
            for the user's words. Empty for a model that cannot be told what to wait for.
        judge: what is asked at the end of every turn while a watch is active and no question is
            asked; empty for models that were made to watch.
        judges_unprompted: False where pictures are only looked at, not judged, while neither a watch
            nor a question asks for it.
        query_after_frame: True where query and watch follow the picture, False where they come
            before the time marker.
        time: the time marker; `{start}` and `{end}` are whole seconds since the session began.
        frame_open, frame_close: around the vision tokens.
        action_open, action_close: around the model's part of a turn.
        silence, standby, response: what the model says for each state. An empty standby means a
            two-state model; an empty response means that whatever is not another state begins a
            response.
        response_end: the token that ends the words of a response, before `action_close`; empty
            where there is none.
        stop: tokens that end an utterance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    memory: str = ""
    remembered: str = ""
    previous_close: str = ""
    user_open: str
    user_close: str
    query: str
    watch: str = ""
    judge: str = ""
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
        """The text that stands for `state`."""
        return {
            State.SILENCE: self.silence,
            State.STANDBY: self.standby,
            State.RESPONSE: self.response,
        }[state]


@dataclass(frozen=True)
class TurnWriter:
    """Writes turns in `turns`' format as segments.

    Attributes:
        encode: token ids of a text, special tokens written out in it included.
        picture: the id that stands for one vision token.
    """

    turns: TurnFormat
    encode: Callable[[str], tuple[int, ...]]
    picture: int

    @property
    def memory_open(self) -> str:
        """What stands before the lines of what was said; empty where the model was not made to read
        them.
        """
        return self.turns.memory.partition("{memory}")[0]

    @property
    def memory_close(self) -> str:
        """What stands after them."""
        return self.turns.memory.partition("{memory}")[2]

    def head(self, previous_text: str = "") -> list[Segment]:
        """What the context begins with; `previous_text` stands for what was said before."""
        return _filled(
            Segment(SegmentKind.HEAD, -1, self.encode(self.turns.head)),
            Segment(SegmentKind.PREVIOUS, -1, self.encode(previous_text)),
            Segment(SegmentKind.HEAD, -1, self.encode(self.turns.previous_close)),
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
        is_judged: bool = False,
        remembered: str = "",
    ) -> list[Segment]:
        """Turn number `turn` up to where the model begins: a picture of `grid` (rows, columns)
        merged vision tokens from `start` to `end` (s).

        `query` and `watch` are words that enter with it, after the lines `remembered`; `is_judged`
        says that a watch is active.
        """
        turns = self.turns
        asked = [
            Segment(
                SegmentKind.REMEMBERED,
                turn,
                self.encode(turns.remembered.replace("{memory}", remembered)) if remembered else (),
            ),
            Segment(
                SegmentKind.WATCH,
                turn,
                self.encode(turns.watch.replace("{query}", watch)) if watch else (),
            ),
            Segment(
                SegmentKind.QUERY,
                turn,
                self.encode(turns.query.replace("{query}", query)) if query else (),
            ),
        ]
        return _filled(
            Segment(SegmentKind.TEXT, turn, self.encode(turns.user_open)),
            *([] if turns.query_after_frame else asked),
            Segment(SegmentKind.TIME, turn, self.encode(turns.time.format(start=start, end=end))),
            Segment(SegmentKind.FRAME_MARK, turn, self.encode(turns.frame_open)),
            Segment(SegmentKind.FRAME, turn, (self.picture,) * (grid[0] * grid[1]), grid),
            Segment(SegmentKind.FRAME_MARK, turn, self.encode(turns.frame_close)),
            *(asked if turns.query_after_frame else []),
            Segment(SegmentKind.JUDGE, turn, self.encode(turns.judge) if is_judged else ()),
            Segment(SegmentKind.TEXT, turn, self.encode(turns.user_close)),
            Segment(SegmentKind.ACTION_MARK, turn, self.encode(turns.action_open)),
        )

    def close(self, turn: int) -> list[Segment]:
        """What follows the model's part of turn number `turn`."""
        return _filled(Segment(SegmentKind.ACTION_MARK, turn, self.encode(self.turns.action_close)))


def _filled(*segments: Segment) -> list[Segment]:
    return [segment for segment in segments if len(segment)]


def chatml(system: str, silence: str, standby: str, response: str) -> TurnFormat:
    """The chat format of the Qwen family with one frame a turn."""
    return TurnFormat(
        head=f"<|im_start|>system\n{system}<|im_end|>\n",
        memory="<|im_start|>user\n[Video History]\n{memory}<|im_end|>\n",
        remembered="[Video History]\n{memory}",
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
PROMPTED = chatml(PROMPTED_SYSTEM, "Silence", "Standby", "Response").model_copy(
    update={"watch": PROMPTED_WATCH, "judge": PROMPTED_JUDGE, "judges_unprompted": False}
)

COMPACT = TurnFormat(
    head="<|im_start|>",
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
"""The shipped model's format: no words are spent on what never changes, so a tick is the picture
and three markers.
"""

STREAMING_VLM = TurnFormat(
    head="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>previous text\n",
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
"""StreamingVLM's format (arXiv 2510.09608): a second of video a turn, words that end in an
ellipsis, silence an ellipsis alone.
"""

HARNESS = chatml(HARNESS_SYSTEM, "</silence>", "", "</response>").model_copy(
    update={"time": "<{start}.0 seconds>\n", "judges_unprompted": False}
)
"""Streaming Harness's format (arXiv 2606.08615): a second and one frame a turn, two states; silent
until a question or a watch comes.
"""

FORMATS = {
    "streamo": STREAMO,
    "prompted": PROMPTED,
    "compact": COMPACT,
    "streaming_vlm": STREAMING_VLM,
    "harness": HARNESS,
}
"""Formats that a stream configuration may name instead of writing them out."""
