"""Any endpoint that speaks the OpenAI chat protocol: one question, one reply."""

from __future__ import annotations

from types import ModuleType

from stream_vlm.types import StreamError


class ChatUnavailable(StreamError):
    """No endpoint can be asked at all; the message names what is missing and the remedy."""


class ChatFailed(StreamError):
    """A question got no reply: no connection, an error status, or an answer that is none of the
    protocol's; the message says which.
    """


class ChatClient:
    """Asks one endpoint; any thread may, several at a time.

    Args:
        base_url: of the endpoint, for example http://localhost:8000/v1.
        model: the name that the endpoint knows the model by.
        key: sent as a bearer token where it is not empty.
        timeout_s: of one request.

    Raises:
        ChatUnavailable: httpx is not installed.
    """

    def __init__(self, base_url: str, model: str, key: str = "", timeout_s: float = 60.0) -> None:
        self.model = model
        self._http = _httpx()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Lost connections are tried again; an answer that came is never asked for twice.
        self._client = self._http.Client(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            timeout=timeout_s,
            transport=self._http.HTTPTransport(retries=2),
        )

    def ask(self, task: str, text: str) -> str:
        """The reply to `text`, where `task` says what is to be done; the likeliest words, none
        drawn.

        Raises:
            ChatFailed: there was none.
        """
        messages = [{"role": "system", "content": task}, {"role": "user", "content": text}]
        try:
            response = self._client.post(
                "chat/completions",
                json={"model": self.model, "messages": messages, "temperature": 0.0},
            )
            response.raise_for_status()
            content = response.json()["choices"][0]["message"]["content"]
            if not isinstance(content, str):
                raise TypeError(f"the reply has no text but {content!r}")
            return content
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
        """Close the connections."""
        self._client.close()


def _httpx() -> ModuleType:
    try:
        import httpx
    except ImportError as error:
        raise ChatUnavailable(
            "an endpoint is asked with httpx, which is not installed; run pip install httpx (0.27"
            " or newer)"
        ) from error
    return httpx
