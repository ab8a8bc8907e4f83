"""A client for any endpoint that speaks the OpenAI chat protocol: one request, one reply."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm.unicode_text import mend


class ChatUnavailable(StreamError):
    """No request can be sent at all; the message names what is missing and the remedy."""


class ChatFailed(StreamError):
    """A request got no usable reply; the message gives the reason.

    Reasons are a failed connection, an error status, or a reply that does not follow the protocol.
    """


class ChatClient:
    """Sends requests to one endpoint; several threads may use it at the same time.

    Args:
        base_url: URL of the endpoint, for example http://localhost:8000/v1.
        model: name of the model, as the endpoint knows it.
        key: sent as a bearer token unless it is empty.
        timeout_s: time limit for one request, seconds.

    Raises:
        ChatUnavailable: httpx is not installed.
    """

    def __init__(self, base_url: str, model: str, key: str = "", timeout_s: float = 60.0) -> None:
        self.model = model
        self._http = import_httpx()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Only failed connections are tried again; a request that was answered is never repeated.
        self._client = self._http.Client(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            timeout=timeout_s,
            transport=self._http.HTTPTransport(retries=2),
        )

    def ask(self, task: str, text: str) -> str:
        """Return the model's reply to `text`, decoded greedily (temperature 0).

        U+FFFD stands for every half character of the reply, which JSON can write as an escape.

        Args:
            task: the system prompt: what the model has to do.
            text: the user's message.

        Raises:
            ChatFailed: there is no usable reply.
        """
        return self._reply_to(
            [{"role": "system", "content": task}, {"role": "user", "content": text}]
        )

    def ask_about(self, pictures: Sequence[str], text: str, task: str = "") -> str:
        """Return the model's reply to `text` about `pictures`, as `ask`.

        Args:
            pictures: data URLs (`picture_data.data_url`), oldest first.
            text: the user's message after the pictures.
            task: the system prompt; empty for none.

        Raises:
            ChatFailed: there is no usable reply.
        """
        content = [
            *({"type": "image_url", "image_url": {"url": url}} for url in pictures),
            {"type": "text", "text": text},
        ]
        system = [{"role": "system", "content": task}] if task else []
        return self._reply_to([*system, {"role": "user", "content": content}])

    def _reply_to(self, messages: list[dict[str, Any]]) -> str:
        try:
            response = self._client.post(
                "chat/completions",
                json={"model": self.model, "messages": messages, "temperature": 0.0},
            )
            response.raise_for_status()
            content = response.json()["choices"][0]["message"]["content"]
            if not isinstance(content, str):
                raise TypeError(f"the reply has no text but {content!r}")
            return mend(content)
        except (
            self._http.HTTPError,
            self._http.InvalidURL,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
        ) as error:
            raise ChatFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def import_httpx() -> ModuleType:
    """The library that sends the requests.

    Raises:
        ChatUnavailable: it is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise ChatUnavailable(
            "requests to an endpoint need httpx, which is not installed; run pip install httpx"
            " (0.27 or newer)"
        ) from error
    return httpx
