"""Asks a server at the start what it can do, and says in one sentence what it lacks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from stream_vlm.backbone.remote.conversation import Conversation, Seen, time_marker
from stream_vlm.backbone.remote.judging import STATE_LABELS, Phrasing
from stream_vlm.backbone.remote.labels import LabelReader, NoLabel, Way
from stream_vlm.backbone.remote.pictures import picture_to_send
from stream_vlm.backbone.remote.transport import RequestRefused, ServerAway, ServerFault, Transport
from stream_vlm.backbone.tokens.first_ids import first_ids
from stream_vlm.context.instructions import NO, SYSTEM, YES, judge_prompt

PATIENCE_S = 120.0
"""The longest time of a request of the probe, seconds: some servers compile at the first one."""

AWAY = frozenset({401, 403, 429, 502, 503, 504})
"""Statuses that say nothing about what a server can do."""

MARKER_TOKENS = 24
"""The most tokens of the time markers of the two test pictures."""

PROBE_QUESTION = judge_prompt("a change of colour")

NO_THINKING: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
"""Tells a model that would think before it replies not to; templates of others ignore it."""

LISTED = (20, 5)
"""How many likely tokens a server is asked to list; many limit it."""


class ServerLacks(ServerFault):
    """The server lacks what a stream needs; the message says what, and the remedy."""


@dataclass(frozen=True)
class Abilities:
    """What a server was seen to do.

    Attributes:
        model: the model's name.
        time: the time marker of a picture that the model knows best.
        phrasing: how it is asked.
        max_tokens: the longest context, tokens; 0 if the server does not tell.
        keeps_pictures: whether a picture can be sent again by its name alone.
        tells_cached: whether it tells how many tokens its prefix cache had.
        salts: whether it takes `cache_salt`, which keeps the cache from other users.
        always: fields of every request.
    """

    model: str
    time: str
    phrasing: Phrasing
    max_tokens: int
    keeps_pictures: bool
    tells_cached: bool
    salts: bool
    always: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it can do, for people."""
        return (
            f"states by {self.phrasing.states.way.value}",
            "words have probabilities"
            if self.phrasing.logprobs
            else "words have no probabilities, so an answer's confidence is 1",
            "pictures are sent once" if self.keeps_pictures else "pictures are sent at every tick",
            f"context of {self.max_tokens} tokens"
            if self.max_tokens
            else "the length of its context is not told",
            "cached tokens are told" if self.tells_cached else "cached tokens are not told",
        )


def probe(transport: Transport, name: str = "") -> Abilities:
    """Find out what the server can do, with about ten short requests.

    Args:
        transport: leads to the server.
        name: the model's name; empty for the server's only model.

    Raises:
        ServerAway: the server cannot be reached.
        RequestRefused: it refuses access.
        ServerLacks: it lacks what a stream needs.
        ServerFault: it does not speak the protocol.
    """
    return _Probe(transport, name).run()


class _Probe:
    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._at = transport.address
        # One session: another server behind the same address has not seen the first picture.
        self._session = secrets.token_hex(16)
        self._model, self._max_tokens, self._time = self._chosen(name)
        first, second = (Seen(index, picture_to_send(_test_picture(index))) for index in range(2))
        self._seen = Conversation(SYSTEM, entries=[first, second])
        self._unseen = Conversation(SYSTEM)
        self._always: dict[str, Any] = {}

    def run(self) -> Abilities:
        # First a plain request, so that what is refused then is not blamed on anything else.
        without = self._chat(self._unseen, PROBE_QUESTION, {"max_tokens": 1})
        if self._takes({"max_tokens": 1, **NO_THINKING}):
            self._always = dict(NO_THINKING)
        with_pictures = self._check_pictures(_prompt_tokens(without))
        states = self._reader(STATE_LABELS)
        yes_no = self._reader((YES, NO))
        logprobs = self._takes({"max_tokens": 2, "logprobs": True}, needs_logprobs=True)
        continues = self._takes(
            {"max_tokens": 2, "continue_final_message": True, "add_generation_prompt": False},
            begun=STATE_LABELS[-1],
        )
        salts = self._takes({"max_tokens": 1, "cache_salt": "probe"})
        return Abilities(
            self._model,
            self._time,
            Phrasing(states, yes_no, continues, logprobs),
            self._max_tokens,
            self._keeps_pictures(_prompt_tokens(with_pictures)),
            bool((with_pictures.get("usage") or {}).get("prompt_tokens_details")),
            salts,
            self._always,
        )

    def _chosen(self, name: str) -> tuple[str, int, str]:
        """The name of the model, its longest context and its time marker."""
        try:
            found = self._transport.models()
        except RequestRefused as error:
            if error.status in AWAY or not name:
                raise
            return name, 0, time_marker(name)
        names = [str(one["id"]) for one in found]
        if not name:
            if len(names) != 1:
                has = f"several: {', '.join(sorted(names)[:10])}" if names else "none"
                raise ServerLacks(f"model.name: {self._at} has not one model but {has}; set it")
            name = names[0]
        elif names and name not in names:
            raise ServerLacks(
                f"model.name: {self._at} has no model {name!r}; it has"
                f" {', '.join(sorted(names)[:10])}"
            )
        described = next((one for one in found if one["id"] == name), {})
        longest = described.get("max_model_len")
        if longest is None:  # Ray Serve writes it elsewhere.
            longest = (described.get("metadata") or {}).get("max_request_context_length")
        # vLLM tells the path of the weights, which often says more than the name.
        marker = time_marker(f"{name} {described.get('root', '')}")
        return name, longest if isinstance(longest, int) else 0, marker

    def _check_pictures(self, tokens_without: int) -> dict[str, Any]:
        """The reply to two pictures.

        Args:
            tokens_without: tokens of the same prompt without pictures; 0 if unknown.

        Raises:
            ServerLacks: the server does not look at them.
        """
        try:
            reply = self._chat(self._seen, PROBE_QUESTION, {"max_tokens": 1})
        except RequestRefused as error:
            if error.status in AWAY:
                raise
            raise ServerLacks(
                f"{self._at}: model {self._model} does not take two pictures in one request"
                f" ({error.reason or f'status {error.status}'}); serve a vision-language model,"
                " with its projector (llama.cpp: --mmproj) and enough pictures a request (vLLM:"
                " --limit-mm-per-prompt)"
            ) from error
        if 0 < _prompt_tokens(reply) <= tokens_without + MARKER_TOKENS:
            raise ServerLacks(
                f"{self._at}: model {self._model} ignores pictures: a prompt with two of them has"
                f" {_prompt_tokens(reply)} tokens, without them {tokens_without}; serve a"
                " vision-language model"
            )
        return reply

    def _reader(self, labels: Sequence[str]) -> LabelReader:
        """The best way to read one of `labels` that works.

        Raises:
            ServerLacks: none does.
        """
        for reader in self._candidates(tuple(labels)):
            # Only likely words must be asked for. The other ways force the words, so the question
            # asks for something else: a server that ignores the fields is found out.
            question = f"Write one of these words: {', '.join(labels)}."
            if reader.way is not Way.TOP:
                question = "Say hello."
            try:
                reply = self._chat(self._unseen, question, reader.fields())
                shares = reader.read(reply)
            except (RequestRefused, NoLabel) as error:
                if isinstance(error, RequestRefused) and error.status in AWAY:
                    raise
                continue
            if reader.way is not Way.TOKEN_IDS or all(share > 0.0 for share in shares.values()):
                return reader
        raise ServerLacks(
            f"{self._at}: model {self._model} gives no state: the server neither lists log"
            " probabilities (logprobs, top_logprobs) with the words Silence, Standby and Response"
            " nor constrains its replies (structured_outputs, response_format); serve an instruct"
            " model with vLLM, SGLang, llama.cpp or a newer Ollama"
        )

    def _candidates(self, labels: tuple[str, ...]) -> list[LabelReader]:
        readers = [LabelReader(labels, Way.TOP, top=top) for top in LISTED]
        readers += [LabelReader(labels, Way.CHOICE), LabelReader(labels, Way.SCHEMA)]
        try:
            ids = first_ids(labels, partial(self._transport.tokenize, self._model), None)
        except ServerAway:
            raise
        except ServerFault:
            return readers
        if all(ids):
            readers.insert(0, LabelReader(labels, Way.TOKEN_IDS, ids=tuple(ids)))
        return readers

    def _takes(
        self, fields: Mapping[str, Any], begun: str = "", *, needs_logprobs: bool = False
    ) -> bool:
        """Whether the server takes a request with `fields`."""
        try:
            reply = self._chat(self._unseen, "Say hello.", fields, begun)
        except RequestRefused as error:
            if error.status in AWAY:
                raise
            return False
        return not needs_logprobs or bool(
            (reply["choices"][0].get("logprobs") or {}).get("content")
        )

    def _keeps_pictures(self, expected_tokens: int) -> bool:
        """Whether pictures that were sent before can be sent by name alone."""
        known = frozenset(seen.picture.name for seen in self._seen.pictures)
        messages = self._seen.messages(PROBE_QUESTION, known=known)
        try:
            reply = self._send(messages, {"max_tokens": 1})
        except RequestRefused as error:
            if error.status in AWAY - {502, 503, 504}:
                raise
            return False
        # A server that ignores what it does not know reads a shorter prompt.
        return 0 < expected_tokens == _prompt_tokens(reply)

    def _chat(
        self, chat: Conversation, question: str, fields: Mapping[str, Any], begun: str = ""
    ) -> dict[str, Any]:
        return self._send(chat.messages(question, begun), fields)

    def _send(self, messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
        request = {"model": self._model, "messages": messages, "temperature": 0.0}
        request |= {**self._always, **fields}
        return self._transport.chat(request, PATIENCE_S, self._session)


def _prompt_tokens(reply: Mapping[str, Any]) -> int:
    usage = reply.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
    return tokens if isinstance(tokens, int) else 0


def _test_picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[:, : 112 * (number + 1), number] = 255
    return picture
