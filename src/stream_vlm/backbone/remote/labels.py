"""Reads one of several words from a reply: the states, or yes and no, with their probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from stream_vlm.types import StreamError


class NoLabel(StreamError):
    """A reply is none of the words that were asked for."""


class Way(Enum):
    """How a server tells one of several words."""

    TOKEN_IDS = "log probabilities of the words' first tokens"
    """`logprob_token_ids` and `allowed_token_ids` of vLLM: every word has its probability."""
    TOP = "log probabilities of the likeliest tokens"
    """`top_logprobs`: a word that is not among them has probability 0."""
    CHOICE = "constrained choice without probabilities"
    """`structured_outputs` of vLLM: the word alone."""
    SCHEMA = "constrained JSON without probabilities"
    """`response_format` with a JSON schema: the word alone."""


@dataclass(frozen=True)
class LabelReader:
    """Asks a server for one of `labels` and reads the reply.

    Attributes:
        labels: the words.
        way: how the server tells one of them.
        ids: the tokens with which each word may begin; empty except for `Way.TOKEN_IDS`.
        top: how many likely tokens the server lists, for `Way.TOP`.
    """

    labels: tuple[str, ...]
    way: Way
    ids: tuple[tuple[int, ...], ...] = ()
    top: int = 20

    @property
    def has_probabilities(self) -> bool:
        """Whether the words have probabilities between 0 and 1."""
        return self.way in (Way.TOKEN_IDS, Way.TOP)

    def fields(self) -> dict[str, Any]:
        """The fields of a request that ask for one of the words."""
        if self.way is Way.TOKEN_IDS:
            ids = [token for one in self.ids for token in one]
            return {
                "max_tokens": 1,
                "logprobs": True,
                "top_logprobs": 0,
                "logprob_token_ids": ids,
                "allowed_token_ids": ids,
                "return_tokens_as_token_ids": True,
            }
        if self.way is Way.TOP:
            return {"max_tokens": 1, "logprobs": True, "top_logprobs": self.top}
        if self.way is Way.CHOICE:
            return {"max_tokens": 8, "structured_outputs": {"choice": list(self.labels)}}
        schema = {"type": "string", "enum": list(self.labels)}
        return {
            "max_tokens": 12,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "label", "schema": schema, "strict": True},
            },
        }

    def read(self, reply: Mapping[str, Any]) -> dict[str, float]:
        """The probability of each word; together 1.

        Log probabilities are over the whole vocabulary, so they are brought to a sum of 1 here.

        Raises:
            NoLabel: the reply has none of the words.
        """
        choice = reply["choices"][0]
        if not self.has_probabilities:
            return self._read_text(str(choice["message"].get("content") or ""))
        found: dict[str, float] = dict.fromkeys(self.labels, 0.0)
        listed = list(_listed(choice))
        for token, logprob in listed:
            label = self._label_of_token(token)
            if label is not None:
                found[label] += math.exp(min(0.0, logprob))
        total = sum(found.values())
        if total <= 0.0:
            raise NoLabel(
                f"the model at the server begins its reply with {_begins(choice)!r}, not with"
                f" {_any_of(self.labels)}; use an instruct model, or a server with"
                " structured outputs"
            )
        return {label: share / total for label, share in found.items()}

    def _label_of_token(self, token: str) -> str | None:
        if self.way is Way.TOKEN_IDS:
            number = token.partition("token_id:")[2]
            return next(
                (
                    label
                    for label, ids in zip(self.labels, self.ids, strict=True)
                    if number in map(str, ids)
                ),
                None,
            )
        # Tokenizers mark the space before a word in their own ways.
        text = token.replace("Ġ", "").replace("▁", "").strip().casefold()
        fitting = [label for label in self.labels if text and label.casefold().startswith(text)]
        return fitting[0] if len(fitting) == 1 else None

    def _read_text(self, text: str) -> dict[str, float]:
        written = text.strip()
        if self.way is Way.SCHEMA:
            try:
                written = str(json.loads(written))
            except ValueError:
                written = ""
        if written not in self.labels:
            raise NoLabel(
                f"the server wrote {text[:40]!r} where only {_any_of(self.labels)} are allowed: it"
                " does not constrain its replies; use a server that gives log probabilities"
            )
        return {label: float(label == written) for label in self.labels}


def mean_probability(reply: Mapping[str, Any]) -> float:
    """The mean probability of the tokens that were written, in [0, 1]; 1 if it is not told."""
    logprobs = reply["choices"][0].get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    values = [
        math.exp(min(0.0, one["logprob"]))
        for one in content or ()
        if isinstance(one, dict) and isinstance(one.get("logprob"), (int, float))
    ]
    return sum(values) / len(values) if values else 1.0


def _listed(choice: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The tokens that the reply lists for its first place, with log probabilities."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return
    for one in content[0].get("top_logprobs") or ():
        logprob = one.get("logprob") if isinstance(one, dict) else None
        if isinstance(logprob, (int, float)) and not math.isnan(logprob):
            yield str(one.get("token", "")), float(logprob)


def _begins(choice: Mapping[str, Any]) -> str:
    return str(choice["message"].get("content") or "")[:20]


def _any_of(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:-1])} or {labels[-1]}"
