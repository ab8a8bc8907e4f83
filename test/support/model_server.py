"""A local HTTP server that answers chat requests as vLLM was seen to, with a model of our own."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chat_prompts import PictureCache, PrefixCache, Prompt, Refused, Vocabulary, read_prompt

UNLIKELY = math.log(1e-12)
"""Log probability of a token that the model does not name."""


@dataclass(frozen=True)
class Words:
    """What the model writes.

    Attributes:
        text: the words.
        first: probability of the first tokens of some words; the rest of 1 is for others.
        each: probability of each token that is written.
    """

    text: str
    first: Mapping[str, float] = field(default_factory=dict)
    each: float = 0.5


Mind = Callable[[Prompt], Words]
"""Says what the model writes about a prompt."""


@dataclass
class ModelServer:
    """A running server: what it can do, and what it was asked.

    Attributes:
        mind: the model.
        url: base URL of the protocol.
        models: names of its models.
        key: the key that it wants, or empty.
        sees: whether the model takes pictures; None ignores them without a word.
        keeps: whether it keeps pictures by their uuid.
        token_ids: whether it knows /tokenize and `logprob_token_ids`.
        top: the most `top_logprobs`; -1 for a server without log probabilities.
        choice: whether it knows `structured_outputs`. It never knows `guided_choice`.
        schema: whether it knows `response_format`.
        continues: whether it continues a reply that is begun.
        tells_cached: whether it tells the tokens of its prefix cache.
        longest: the longest context, tokens.
        ray: whether it tells that length as Ray Serve does.
        most_pictures: the most pictures of a request.
        fault: called before a chat is answered; it may raise `Refused`, wait, or give bytes that
            are sent in the place of a reply.
        requests: the chat requests, in the order in which they came.
        prompts: the prompts that were answered.
        usages: the usage of each answer.
        sessions: the header x-session-id of each chat request, or an empty text.
    """

    mind: Mind
    url: str = ""
    models: Sequence[str] = ("eyes",)
    key: str = ""
    sees: bool | None = True
    keeps: bool = True
    token_ids: bool = True
    top: int = 20
    choice: bool = True
    schema: bool = True
    continues: bool = True
    tells_cached: bool = True
    longest: int = 100_000
    ray: bool = False
    most_pictures: int = 1000
    fault: Callable[[Mapping[str, Any]], bytes | None] = lambda request: None
    requests: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    pictures: PictureCache = field(default_factory=PictureCache)
    prefixes: PrefixCache = field(default_factory=PrefixCache)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def restart(self) -> None:
        """Forget everything that was cached."""
        self.pictures, self.prefixes = PictureCache(), PrefixCache()

    def chat(self, request: dict[str, Any]) -> dict[str, Any] | bytes:
        """Answer a chat request.

        Raises:
            Refused: with an error status.
        """
        with self.lock:
            self.requests.append(request)
        replaced = self.fault(request)
        if replaced is not None:
            return replaced
        with self.lock:
            try:
                return self._answer(request)
            except Refused:
                self.pictures.half |= _names(request) - set(self.pictures.kept)
                raise

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["model"] not in self.models:
            raise Refused(404, f"The model `{request['model']}` does not exist.")
        continues = self.continues and bool(request.get("continue_final_message"))
        if not self.continues and "continue_final_message" in request:
            raise Refused(400, "continue_final_message: extra fields are not permitted")
        messages = request["messages"] if self.sees is not None else _without_pictures(request)
        cache = self.pictures if self.keeps else None
        prompt = read_prompt(messages, continues=continues, cache=cache, vocabulary=self.vocabulary)
        if prompt.pictures and not self.sees:
            raise Refused(400, f"{request['model']} is not a multimodal model")
        if len(prompt.pictures) > self.most_pictures:
            raise Refused(400, f"At most {self.most_pictures} image(s) may be provided.")
        if len(prompt.tokens) + request["max_tokens"] > self.longest:
            raise Refused(
                400, f"This model's maximum context length is {self.longest} tokens. However, ..."
            )
        if 0 < self.top < request.get("top_logprobs", 0):
            raise Refused(400, f"Requested sample logprobs of {request['top_logprobs']} is too big")
        words = self.mind(prompt)
        choice = self._choice(request, words)
        cached = self.prefixes.take(prompt.tokens, request.get("cache_salt", ""))
        usage: dict[str, Any] = {"prompt_tokens": len(prompt.tokens), "completion_tokens": 1}
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        self._keep(request)
        self.prompts.append(prompt)
        self.usages.append(usage)
        return {"object": "chat.completion", "choices": [choice], "usage": usage}

    def _choice(self, request: dict[str, Any], words: Words) -> dict[str, Any]:
        text, end = words.text, "stop"
        allowed = request.get("structured_outputs", {}).get("choice") if self.choice else None
        schema = request.get("response_format", {}).get("json_schema") if self.schema else None
        if schema is not None:
            allowed = schema["schema"]["enum"]
        if allowed is not None:
            text = max(allowed, key=lambda label: words.first.get(label, 0.0))
            text = json.dumps(text) if schema is not None else text
        pieces = self.vocabulary.encode(text)
        if len(pieces) > request["max_tokens"]:
            pieces, end = pieces[: request["max_tokens"]], "length"
            text = "".join(self.vocabulary.piece(piece) for piece in pieces)
        if any(stop in text for stop in request.get("stop", [])):
            text = text.partition(request["stop"][0])[0]
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": end,
            "logprobs": None,
        }
        if request.get("logprobs") and self.top >= 0:
            content = [{"token": "x", "logprob": math.log(words.each)} for _ in pieces]
            content[0]["top_logprobs"] = self._top(request, words)
            choice["logprobs"] = {"content": content}
        return choice

    def _top(self, request: dict[str, Any], words: Words) -> list[dict[str, Any]]:
        first = {
            self.vocabulary.encode(label)[0]: math.log(share)
            for label, share in words.first.items()
            if share > 0.0
        }
        ids = request.get("logprob_token_ids") if self.token_ids else None
        if ids is not None:
            return [
                {"token": f"token_id:{token}", "logprob": first.get(token, UNLIKELY)}
                for token in ids
            ]
        listed = sorted(first.items(), key=lambda pair: -pair[1])[: request.get("top_logprobs", 0)]
        return [{"token": self.vocabulary.piece(token), "logprob": at} for token, at in listed]

    def _keep(self, request: dict[str, Any]) -> None:
        for message in request["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part.get("uuid") and part["image_url"]["url"]:
                    self.pictures.kept[part["uuid"]] = part["image_url"]["url"]
                    self.pictures.half.discard(part["uuid"])


def _names(request: dict[str, Any]) -> set[str]:
    return {
        part["uuid"]
        for message in request["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part.get("uuid") and part["image_url"]["url"]
    }


def _without_pictures(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [part for part in message["content"] if part["type"] == "text"]}
        if isinstance(message["content"], list)
        else message
        for message in request["messages"]
    ]


@contextmanager
def serve_model(mind: Mind, port: int = 0, **values: Any) -> Iterator[ModelServer]:
    """Answer chat requests with `mind` while the block runs; `values` are fields of the server."""
    server = ModelServer(mind, **values)
    httpd = ThreadingHTTPServer(("127.0.0.1", port), _handler(server))
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self._reply(lambda: {"data": [self._model(name) for name in server.models]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize" and server.token_ids:
                self._reply(lambda: {"tokens": server.vocabulary.encode(request["prompt"])})
            elif self.path == "/v1/chat/completions":
                with server.lock:
                    server.sessions.append(self.headers.get("x-session-id", ""))
                self._reply(lambda: server.chat(request))
            else:
                self._send(404, b'{"detail":"Not Found"}', "application/json")

        def _model(self, name: str) -> dict[str, Any]:
            if server.ray:
                metadata = {"model_id": name, "max_request_context_length": server.longest}
                return {"id": name, "object": "model", "metadata": metadata}
            return {"id": name, "object": "model", "max_model_len": server.longest}

        def _reply(self, answer: Callable[[], dict[str, Any] | bytes]) -> None:
            if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                self._send(401, b'{"error":"Unauthorized"}', "application/json")
                return
            try:
                body = answer()
            except Refused as refused:
                error = {"error": {"message": str(refused), "code": refused.status}}
                self._send(refused.status, json.dumps(error).encode(), "application/json")
                return
            if isinstance(body, bytes):
                self._send(200, body, "text/html")
            else:
                self._send(200, json.dumps(body).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing, to keep the output of the tests short."""

    return Handler


def slow(seconds: float) -> Callable[[Mapping[str, Any]], None]:
    """A fault: every chat request is answered `seconds` late."""

    def wait(request: Mapping[str, Any]) -> None:
        time.sleep(seconds)

    return wait
