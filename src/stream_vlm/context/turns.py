"""How a tick is written down for a model: the markers around time, question, picture and answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from stream_vlm.stream import State

STREAMO_SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as <Xs-Ys>.\n"
    "Answer every frame with exactly one of: </Silence> when nothing relevant happens, </Standby> while a relevant event is still under way, "
    "</Response> followed by one short sentence once an event is complete or a question can be answered from what was seen."
)
"""Instruction for three-state models that were tuned with Streamo's markers (arXiv 2512.21334)."""

PROMPTED_SYSTEM = (
    "You watch a live video, one frame at a time. Each frame is labelled with its time as <Xs-Ys>.\n"
    "Begin every reply with exactly one word: Silence when nothing worth reporting happens, Standby while something is still under way, "
    "Response followed by one short sentence once something is complete or a question can be answered from what was seen."
)
"""Instruction for a model that was never tuned for streams: plain words stand for the states."""


class TurnFormat(BaseModel):
    """The pieces of text around a frame; a tick is query + time + frame + decision, and each piece is tokenized on its own.

    Attributes:
        head: what the context begins with, once.
        user_open, user_close: around the user's part of a turn.
        query: the user's words; `{query}` stands for them.
        time: the time marker; `{start}` and `{end}` are whole seconds since the session began.
        frame_open, frame_close: around the vision tokens.
        silence, standby, response: what the model says for each state; an empty standby means a two-state model.
        action_close: after the model's part of a turn.
        stop: tokens that end an utterance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    user_open: str
    user_close: str
    query: str
    time: str
    frame_open: str
    frame_close: str
    silence: str
    standby: str
    response: str
    action_close: str
    stop: list[str] = Field(min_length=1)

    def marker(self, state: State) -> str:
        """The text that stands for `state`."""
        return {State.SILENCE: self.silence, State.STANDBY: self.standby, State.RESPONSE: self.response}[state]


def chatml(system: str, silence: str, standby: str, response: str) -> TurnFormat:
    """The chat format of the Qwen family with one frame a turn."""
    return TurnFormat(
        head=f"<|im_start|>system\n{system}<|im_end|>\n",
        user_open="<|im_start|>user\n",
        user_close="<|im_end|>\n<|im_start|>assistant\n",
        query="{query}\n",
        time="<{start}s-{end}s>\n",
        frame_open="<|vision_start|>",
        frame_close="<|vision_end|>",
        silence=silence,
        standby=standby,
        response=response,
        action_close="<|im_end|>\n",
        stop=["<|im_end|>", "<|endoftext|>"],
    )


STREAMO = chatml(STREAMO_SYSTEM, "</Silence>", "</Standby>", "</Response>")
PROMPTED = chatml(PROMPTED_SYSTEM, "Silence", "Standby", "Response")

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
"""The shipped model's format: no words are spent on what never changes, so a tick is the picture and three markers."""
