"""The protocol before standing instructions, over a chat server: kept for comparison only.

One watch enters the chat once. At every picture the model is asked whether it has happened, its
reply stays in the chat, and each response is spoken. Nothing tells it what it reported, and nobody
looks twice.
"""

from __future__ import annotations

import base64
import math
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone.remote.transport import Transport
from stream_vlm.context.instructions import LABELS
from stream_vlm.model_protocol import (
    SILENT,
    ModelStream,
    Outcome,
    Turn,
    Upcoming,
    one_by_one,
)
from stream_vlm.types import NANOSECONDS, Decision, State, StreamError
from stream_vlm_lab.evaluation.scripted_vlm import one_watch_texts

Message = dict[str, Any]
MOST_TURNS = 60
"""Turns of the chat; older ones are left out."""
MOST_TOKENS = 32
"""Longest utterance; the default of `decision.max_new_tokens`."""


@dataclass
class OneWatchStream:
    """The chat about one camera.

    Attributes:
        turns: messages of each turn, oldest first.
        first_ns: stamp of the first frame, ns; None before it.
    """

    turns: deque[list[Message]] = field(default_factory=lambda: deque(maxlen=MOST_TURNS))
    first_ns: int | None = None

    def reset(self) -> None:
        """Clear the chat."""
        self.turns.clear()
        self.first_ns = None

    def prepare(self) -> None:
        """There is nothing to prepare."""


class OneWatchModel:
    """A model behind a chat server that follows one watch by the texts of `one_watch_texts`.

    Args:
        transport: the server.
        model: name of the model, as the server knows it.
    """

    reads_memory = False
    activity_threshold = 0.0

    def __init__(self, transport: Transport, model: str) -> None:
        self.model_id = model
        self.seconds: Mapping[str, float] = {}
        self._transport = transport

    def open_stream(self, camera: str) -> ModelStream:
        """A new chat."""
        return OneWatchStream()

    def unknown_words(self, text: str) -> Sequence[str]:
        """None: what the server knows is not known."""
        return ()

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Ask about each turn's picture while a watch is active; else stay silent."""
        started = time.perf_counter()
        outcomes = one_by_one(turns, self._take)
        self.seconds = {"decode": time.perf_counter() - started}
        return outcomes

    def _take(self, turn: Turn) -> Outcome:
        chat = turn.stream
        assert isinstance(chat, OneWatchStream)
        stamp_ns = turn.frame.stamp_ns
        chat.first_ns = stamp_ns if chat.first_ns is None else chat.first_ns
        second = (stamp_ns - chat.first_ns) // NANOSECONDS
        label = one_watch_texts.TIME.format(start=second, end=second + 1)
        parts = [_text(label), _picture(turn.frame.image)]
        if turn.watch is None:
            chat.turns.append([{"role": "user", "content": parts}])
            return Outcome(SILENT)
        parts.append(_text(one_watch_texts.JUDGE))
        messages: list[Message] = [
            {"role": "system", "content": one_watch_texts.SYSTEM},
            {
                "role": "user",
                "content": [_text(one_watch_texts.WATCH.format(query=turn.watch.text))],
            },
            *(message for earlier in chat.turns for message in earlier),
            {"role": "user", "content": parts},
        ]
        decision = turn.gate(self._decide(messages))
        if decision.state is State.RESPONSE:
            decision = self._spoken(messages, decision)
        # The server has the picture now; its name is enough in later requests.
        parts[1] = {**parts[1], "image_url": {"url": None}}
        said = " ".join(filter(None, (LABELS[decision.state], decision.text)))
        chat.turns.append(
            [{"role": "user", "content": parts}, {"role": "assistant", "content": said}]
        )
        return Outcome(decision)

    def _decide(self, messages: Sequence[Message]) -> Decision:
        """The state by the probabilities of the three words as the first token."""
        reply = self._ask(messages, max_tokens=1, logprobs=True, top_logprobs=20)
        first = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {entry["token"]: math.exp(entry["logprob"]) for entry in first}
        chances = {state: found.get(LABELS[state], 0.0) for state in State}
        whole = sum(chances.values()) or 1.0
        chances = {state: chance / whole for state, chance in chances.items()}
        state = max(chances, key=chances.__getitem__)
        return Decision(state, chances, confidence=chances[state])

    def _spoken(self, messages: Sequence[Message], decision: Decision) -> Decision:
        begun = {"role": "assistant", "content": LABELS[State.RESPONSE]}
        reply = self._ask(
            [*messages, begun],
            max_tokens=MOST_TOKENS,
            continue_final_message=True,
            add_generation_prompt=False,
        )
        text = reply["choices"][0]["message"]["content"].strip()
        return Decision(decision.state, decision.probabilities, text, decision.confidence)

    def _ask(self, messages: Sequence[Message], **options: Any) -> dict[str, Any]:
        request = {"model": self.model_id, "messages": messages, "temperature": 0.0, **options}
        return self._transport.chat(request, timeout_s=60.0)


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _picture(image: NDArray[np.uint8]) -> Message:
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert ok, "OpenCV writes every uint8 picture"
    url = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}, "uuid": secrets.token_hex(16)}
