"""Carries chat requests over HTTP, and turns every failure into one sentence with its remedy."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from stream_vlm.backbone.remote.transport import (
    NotTheProtocol,
    RequestRefused,
    ServerAway,
    ServerFault,
)
from stream_vlm.redact import redact
from stream_vlm.text_models.chat_client import import_httpx

KEY = "STREAM_VLM_MODEL_KEY"
"""Environment variable with the key of the server."""

MOST_BYTES = 16_000_000
"""The longest reply that is read."""

SHOWN = 300
"""Characters of a server's own words in a message."""

CONNECT_S = 3.0
"""The longest time to connect, seconds, if the request allows more."""

SESSION_HEADER = "x-session-id"
"""Names the stream of a request; Ray Serve and other routers choose the server by it."""

QUICK_S = 10.0
"""The longest time of a request that runs no model, seconds."""


class HttpTransport:
    """Sends the requests of `transport.Transport` to one server; any thread may call it.

    Attributes:
        address: the server's URL without its secrets.
    """

    def __init__(self, url: str, key: str = "") -> None:
        """Open no connection yet.

        Args:
            url: base URL of the protocol, for example http://localhost:8000/v1.
            key: sent as a bearer token unless it is empty; it appears in no message.

        Raises:
            ServerFault: `url` is no HTTP address.
            ChatUnavailable: httpx is not installed.
        """
        self.address = redact(url)
        self._http = import_httpx()
        base = url.strip().rstrip("/")
        try:
            parsed = self._http.URL(base)
        except (self._http.InvalidURL, TypeError, ValueError) as error:
            raise ServerFault(f"model.url: {self.address} is not an address ({error})") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ServerFault(
                f"model.url: {self.address} is not an address of a server; write it like"
                " http://localhost:8000/v1"
            )
        self._base, self._root = base, base.removesuffix("/v1")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._has_key = bool(key)
        # A request that failed is never sent again from here: its picture would be old.
        self._client = self._http.Client(
            headers=headers,
            limits=self._http.Limits(
                max_connections=None,
                max_keepalive_connections=32,
                # Shorter than the 5 s of vLLM: a connection that it closes meanwhile looks broken.
                keepalive_expiry=4.0,
            ),
        )

    def models(self) -> Sequence[Mapping[str, Any]]:
        """See `transport.Transport.models`."""
        reply = self._request("GET", f"{self._base}/models", None, QUICK_S)
        found = reply.get("data")
        if not isinstance(found, list) or not all(
            isinstance(one, dict) and isinstance(one.get("id"), str) for one in found
        ):
            raise NotTheProtocol(
                f"{self.address}: /models gives no list of models; model.url must end where the"
                " OpenAI protocol begins, for example in /v1"
            )
        return found

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """See `transport.Transport.tokenize`; vLLM and llama.cpp know this request."""
        body = {"model": model, "prompt": text, "content": text, "add_special_tokens": False}
        reply = self._request("POST", f"{self._root}/tokenize", body, QUICK_S)
        ids = reply.get("tokens")
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise NotTheProtocol(f"{self.address}: /tokenize gives no token ids")
        return ids

    def chat(
        self, request: Mapping[str, Any], timeout_s: float, session: str = ""
    ) -> dict[str, Any]:
        """See `transport.Transport.chat`."""
        headers = {SESSION_HEADER: session} if session else {}
        reply = self._request("POST", f"{self._base}/chat/completions", request, timeout_s, headers)
        choices = reply.get("choices")
        if not (
            isinstance(choices, list)
            and choices
            and isinstance(choices[0], dict)
            and isinstance(choices[0].get("message"), dict)
        ):
            raise NotTheProtocol(
                f"{self.address}: the reply has no message: {_shortened(json.dumps(reply))}"
            )
        return reply

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _request(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        limits = self._http.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        until, content = time.monotonic() + timeout_s, bytearray()
        try:
            with self._client.stream(
                method, url, json=body, headers=headers, timeout=limits
            ) as response:
                # The limits of httpx are for one read; a server may send a byte now and then.
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() > until or len(content) > MOST_BYTES:
                        raise self._http.ReadTimeout("the reply does not end")
                status, kind = response.status_code, response.headers.get("content-type", "")
        except self._http.ConnectError as error:
            raise ServerAway(
                f"{self.address}: no connection ({_shortened(str(error))}); start the server, or"
                " correct model.url"
            ) from error
        except self._http.TimeoutException as error:
            raise ServerAway(
                f"{self.address}: no reply within {timeout_s:.3g} s; raise model.timeout_s, lower"
                " stream.rate_hz, or use a smaller model"
            ) from error
        except (self._http.HTTPError, self._http.InvalidURL, RuntimeError) as error:
            raise ServerAway(
                f"{self.address}: the connection broke ({type(error).__name__}:"
                f" {_shortened(redact(str(error)))}); see the log of the server"
            ) from error
        if status >= 300:
            raise self._refusal(status, bytes(content))
        try:
            reply = json.loads(content)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise NotTheProtocol(
                f"{self.address}: the reply is not JSON but {kind.partition(';')[0] or 'unknown'};"
                " model.url must lead to a server with the OpenAI chat protocol, for example"
                " http://localhost:8000/v1"
            )
        return reply

    def _refusal(self, status: int, content: bytes) -> RequestRefused:
        reason = _reason(content)
        said = f" ({reason})" if reason else ""
        remedy = "see the log of the server"
        if status in (401, 403):
            has = f"the key in {KEY} is wrong" if self._has_key else f"set {KEY} to its key"
            remedy = f"the server refuses access; {has}"
        elif status == 404:
            remedy = "correct model.url, which ends in /v1 on most servers, or model.name"
        elif status == 429:
            remedy = "it is busy; lower stream.rate_hz, or give the server more capacity"
        elif 300 <= status < 400:
            remedy = "it points to another address; set model.url to that one"
        return RequestRefused(f"{self.address}: status {status}{said}; {remedy}", status, reason)


def _reason(content: bytes) -> str:
    """The server's own words in the body of an error, shortened."""
    try:
        body = json.loads(content)
    except ValueError:
        return ""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail") if key in body), "")
    return _shortened(body if isinstance(body, str) else json.dumps(body))


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN else words[: SHOWN - 3] + "..."
