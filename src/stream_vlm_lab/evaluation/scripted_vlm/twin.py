"""A scripted model in the place of a server, without a network."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_vlm.backbone.remote.transport import RequestRefused
from stream_vlm.types import StreamError
from stream_vlm_lab.evaluation.scripted_vlm.answerer import ScriptedVlm, pieces_of, token_id
from stream_vlm_lab.evaluation.scripted_vlm.quirks import parse_quirks


@dataclass
class Usage:
    """What the requests cost so far.

    Attributes:
        requests: number of replies.
        prompt_tokens: tokens of the requests, pictures included.
        cached_tokens: those of them that a prefix cache has already.
        completion_tokens: tokens of the replies.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class ScriptedTransport:
    """The transport of the server engine to a scripted model in this process.

    It counts what the requests cost. Requests and replies pass through JSON, as over a network.

    Args:
        model: name of the scripted model, with its quirks.

    Raises:
        QuirksError: the name cannot be read.
    """

    address = "a scripted model in this process"

    def __init__(self, model: str) -> None:
        self.vlm = ScriptedVlm(parse_quirks(model), model)
        self.usage = Usage()
        self._lock = threading.Lock()

    def models(self) -> Sequence[Mapping[str, Any]]:
        """The scripted model."""
        return [{"id": self.vlm.name, "object": "model", "max_model_len": 1_000_000}]

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """Ids of the tokens of `text`."""
        return [token_id(piece) for piece in pieces_of(text)]

    def chat(
        self, request: Mapping[str, Any], timeout_s: float, session: str = ""
    ) -> dict[str, Any]:
        """The reply of the scripted model, which is one for all sessions.

        Raises:
            RequestRefused: the request does not follow the protocol, or names an unknown picture.
        """
        try:
            reply = self.vlm.chat(json.loads(json.dumps(request)))
        except StreamError as error:
            raise RequestRefused(f"{self.address}: {error}", 400, str(error)) from error
        used = reply["usage"]
        with self._lock:
            self.usage.requests += 1
            self.usage.prompt_tokens += used["prompt_tokens"]
            self.usage.cached_tokens += used["prompt_tokens_details"]["cached_tokens"]
            self.usage.completion_tokens += used["completion_tokens"]
        return dict(json.loads(json.dumps(reply)))

    def close(self) -> None:
        """There is no connection."""
