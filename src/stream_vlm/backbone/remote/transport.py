"""What the server engine needs of a server: three calls, and the faults that they raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stream_vlm.model_protocol import ModelAway
from stream_vlm.types import StreamError


class ServerFault(StreamError):
    """A request got no usable reply; the message names the server, the reason and the remedy."""


class ServerAway(ServerFault, ModelAway):
    """There was no reply: no connection, a broken one, or none within the time limit."""


class NotTheProtocol(ServerFault):
    """The reply does not follow the OpenAI chat protocol, for example a page in HTML."""


class RequestRefused(ServerFault):
    """The server answered with an error status.

    Attributes:
        status: the HTTP status, for example 400.
        reason: the server's own words, shortened; empty if it gave none.
    """

    def __init__(self, message: str, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Transport(Protocol):
    """Carries requests to a server and brings back its replies; any thread may call it.

    The engine calls nothing else, so a program that has these calls can take a server's place.

    A chat request is the JSON object of the OpenAI protocol as a dict. The engine sends `messages`,
    `max_tokens`, `temperature` and where the server knows them `logprobs`, `top_logprobs`,
    `logprob_token_ids`, `allowed_token_ids`, `structured_outputs`, `response_format`, `cache_salt`
    and `continue_final_message` with `add_generation_prompt`. `messages` are a system message, and
    then user messages whose content is a list of parts, and assistant messages with a string. A
    part is `{"type": "text", "text": ...}` or a picture as JPEG, `{"type": "image_url",
    "image_url": {"url": "data:image/jpeg;base64,..."}, "uuid": ...}`; the URL is None for a picture
    that the server has already. The last part of the last user message is the question: a prompt
    of `context.instructions`, or the words of a user.
    """

    @property
    def address(self) -> str:
        """Where the server is, for messages; without any secret."""
        ...

    def models(self) -> Sequence[Mapping[str, Any]]:
        """The models that the server has, as `data` of /v1/models; each has an `id`.

        Raises:
            ServerFault: there is no usable reply.
        """
        ...

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """Ids of the tokens of `text`, without added special tokens.

        Raises:
            ServerFault: there is no usable reply; most servers do not know this request.
        """
        ...

    def chat(
        self, request: Mapping[str, Any], timeout_s: float, session: str = ""
    ) -> dict[str, Any]:
        """The reply to a chat request, the JSON object of the OpenAI protocol.

        Args:
            request: the request with its `model`; it is not changed.
            timeout_s: the longest time until the whole reply is there, seconds.
            session: names the stream; what stands before several servers may choose by it.

        Raises:
            ServerFault: there is no usable reply.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
