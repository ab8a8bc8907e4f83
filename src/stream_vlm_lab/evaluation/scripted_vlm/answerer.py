"""A scripted model behind the OpenAI chat protocol, within the process: one request, one reply."""

from __future__ import annotations

import json
import math
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_vlm.context.instructions import LABELS, NO, VERIFY, YES
from stream_vlm.types import State
from stream_vlm_lab.evaluation.scripted_vlm.judging import (
    CERTAIN,
    UNSURE,
    Verdict,
    dice_for,
    is_true,
    judge,
)
from stream_vlm_lab.evaluation.scripted_vlm.prefix_cache import PrefixCache
from stream_vlm_lab.evaluation.scripted_vlm.quirks import Dice, Quirks
from stream_vlm_lab.evaluation.scripted_vlm.request_reader import Asked, BadRequest, RequestReader
from stream_vlm_lab.evaluation.scripted_vlm.sentences import (
    FAREWELL,
    GREETING,
    REFUSAL,
    description_of,
    dressed,
    in_other_words,
)
from stream_vlm_lab.evaluation.scripted_vlm.sight import Sight, look_at

_PIECE = re.compile(r" ?\w+|\s|[^\w\s]")
_ELSE = 0.9
"""Probability of a first word that is no label, where the model would rather say that."""
_LEAST = 1e-6
_LABEL_WORDS = (*LABELS.values(), YES, NO)


@dataclass(frozen=True)
class Reply:
    """What a model would write freely, and what it thinks of the words that it may have to write.

    Attributes:
        free: the whole text.
        chances: probability of each word that can be asked for; they sum to 1.
        rest: what follows the word of `chances` with the highest probability.
    """

    free: str
    chances: Mapping[str, float]
    rest: str = ""


class ScriptedVlm:
    """Answers chat requests about simulated pictures; any thread may call it.

    It sees the request only. The mark of a picture says which room and time it shows, and the
    labels are read from the first picture of the request until the newest, never later.

    Args:
        quirks: its habits and mistakes.
        name: its name, as `model` of the replies.
    """

    def __init__(self, quirks: Quirks, name: str = "scripted") -> None:
        self.quirks, self.name = quirks, name
        self._reader, self._cache = RequestReader(), PrefixCache()
        self._lock = threading.Lock()

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a chat request; both are JSON objects of the OpenAI protocol.

        Raises:
            BadRequest: the request does not follow the protocol, or names an unknown uuid.
        """
        with self._lock:
            asked = self._reader.read(request)
            cached = self._cache.read(asked.pieces)
        reply = self._reply(asked)
        text, chances = _constrained(reply, request)
        if text is None:
            text = _continued(reply, asked.started) if asked.started else reply.free
        pieces = pieces_of(_until_stop(text, request.get("stop")))
        most = int(request.get("max_completion_tokens") or request.get("max_tokens") or 256)
        cut = len(pieces) > most
        pieces = pieces[:most]
        prompt = sum(tokens for _, tokens in asked.pieces)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(pieces)},
            "finish_reason": "length" if cut else "stop",
        }
        if request.get("logprobs"):
            choice["logprobs"] = {
                "content": _logprobs(pieces, {} if asked.started else chances, request)
            }
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": 0,
            "model": self.name,
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": len(pieces),
                "total_tokens": prompt + len(pieces),
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }

    def _reply(self, asked: Asked) -> Reply:
        shown = [picture.source for picture in asked.pictures]
        if asked.question and any(word in asked.question for word in _LABEL_WORDS):
            return _chosen(asked.question)
        if not shown or shown[-1] is None:
            # A picture without a mark shows nothing that this model knows.
            return _blank(asked)
        sight = look_at([source for source in shown if source is not None])
        if asked.verify:
            return _verified(asked.verify, sight, self.quirks)
        if asked.instruction:
            dice = dice_for(asked.instruction, sight, self.quirks)
            verdict = judge(asked, sight, self.quirks)
            sentence = in_other_words(verdict.sentence, self.quirks, dice)
            return _judged(replace(verdict, sentence=sentence), self.quirks, dice)
        there = [description_of(*thing, self.quirks.language) for thing in sight.present]
        words = " ".join(there) or "There is nobody, and nothing moves."
        return _said(dressed(words, self.quirks, dice_for(asked.question, sight, self.quirks)))


def pieces_of(text: str) -> list[str]:
    """`text` in tokens: words with the space before them, and single other characters."""
    return _PIECE.findall(text)


def token_id(piece: str) -> int:
    """The id of a token, from 0 up to 2**20; no two labels have the same."""
    return zlib.crc32(piece.encode()) % 2**20


def _said(text: str) -> Reply:
    return Reply(text, dict.fromkeys(_LABEL_WORDS, _LEAST))


def _chosen(question: str) -> Reply:
    """The reply to a question that names the words to choose from."""
    words = [word for word in _LABEL_WORDS if word in question]
    return Reply(words[0], dict.fromkeys(words, 1 / len(words)))


def _blank(asked: Asked) -> Reply:
    """The reply where nothing can be seen."""
    if asked.verify:
        return Reply(NO, {NO: 0.9, YES: 0.1})
    if asked.instruction:
        chances = dict.fromkeys(LABELS.values(), 0.05) | {LABELS[State.SILENCE]: 0.9}
        return Reply(LABELS[State.SILENCE], chances)
    return _said("Hello. I see nothing.")


def _judged(verdict: Verdict, quirks: Quirks, dice: Dice) -> Reply:
    others = [state for state in State if state is not verdict.state]
    nearer = 0.2 + 0.6 * dice.draw("nearer")
    left = 1 - verdict.probability
    chances = {
        LABELS[verdict.state]: verdict.probability,
        LABELS[others[0]]: left * nearer,
        LABELS[others[1]]: left * (1 - nearer),
    }
    label = LABELS[verdict.state]
    refused = dice.happens(quirks.refuse, "refuse")
    if verdict.state is State.RESPONSE:
        follows = REFUSAL if refused else dressed(verdict.sentence, quirks, dice)
        glue = "" if follows.startswith(f"{label}:") else " "
        rest = follows.removeprefix(label) if not glue else glue + follows
    else:
        rest = ""
    free = REFUSAL if refused else _free(label, verdict, quirks, dice)
    return Reply(free, chances, rest)


def _free(label: str, verdict: Verdict, quirks: Quirks, dice: Dice) -> str:
    """The whole reply of a model that writes label and sentence without being held to it."""
    text = f"**{label}**" if dice.happens(quirks.markdown, "markdown") else label
    if verdict.sentence:
        prefix = f"{quirks.prefix}: " if quirks.prefix not in ("", label) else ""
        text += f": {prefix}{verdict.sentence}"
    if dice.happens(quirks.chatter, "chatter"):
        text = f"{GREETING}{text}{FAREWELL}"
    return text


def _verified(sentence: str, sight: Sight, quirks: Quirks) -> Reply:
    dice = dice_for(f"verify {sentence}", sight, quirks)
    true = is_true(sentence, sight, quirks, must_have_happened="happen" in VERIFY)
    right = dice.happens(quirks.verify, "verify")
    low, high = CERTAIN if right else UNSURE
    # A word that is written is the more likely of the two.
    sure = max(0.5 + _LEAST, low + (high - low) * dice.draw("probability"))
    answer, other = (YES, NO) if true == right else (NO, YES)
    free = f"**{answer}**" if dice.happens(quirks.markdown, "markdown") else answer
    if dice.happens(quirks.chatter, "chatter"):
        free = f"{GREETING}{free}{FAREWELL}"
    return Reply(free, {answer: sure, other: 1 - sure})


def _constrained(
    reply: Reply, request: Mapping[str, Any]
) -> tuple[str | None, Mapping[str, float]]:
    """The reply where the request allows certain words only, and the chances of first words."""
    chances = reply.chances
    first = pieces_of(reply.free)[0]
    if first not in chances:
        chances = {word: chance * (1 - _ELSE) for word, chance in chances.items()}
        chances[first] = _ELSE
    ids = request.get("allowed_token_ids")
    if ids:
        words = [word for word in reply.chances if token_id(word) in ids]
        if not words:
            raise BadRequest("allowed_token_ids: none of them is a word that answers the question")
        return max(words, key=reply.chances.__getitem__), chances
    choices = (request.get("structured_outputs") or {}).get("choice")
    schema = ((request.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
    held = choices or schema.get("enum")
    if held:
        word = max(held, key=lambda word: reply.chances.get(word, 0.0))
        return (word if choices else json.dumps(word)), reply.chances
    return None, chances


def _until_stop(text: str, stop: str | Sequence[str] | None) -> str:
    """`text` up to where one of the texts of `stop` begins."""
    stops = [stop] if isinstance(stop, str) else stop or []
    return text[: min([len(text), *(text.find(one) for one in stops if one in text)])]


def _continued(reply: Reply, started: str) -> str:
    """What follows after the words `started`."""
    if reply.free.startswith(started):
        return reply.free[len(started) :]
    return reply.rest or reply.free


def _logprobs(
    pieces: Sequence[str], chances: Mapping[str, float], request: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """`logprobs.content`: of the first token with its rivals, of the others alone."""
    as_ids = bool(request.get("return_tokens_as_token_ids"))
    wanted = set(request.get("logprob_token_ids") or ())
    top = int(request.get("top_logprobs") or 0)

    def entry(piece: str, chance: float) -> dict[str, Any]:
        return {
            "token": f"token_id:{token_id(piece)}" if as_ids else piece,
            "logprob": math.log(max(chance, _LEAST)),
            "bytes": list(piece.encode()),
        }

    content = []
    for index, piece in enumerate(pieces):
        mine = {piece: 0.9, **chances} if index == 0 else {piece: 0.9}
        ranked = sorted(mine, key=lambda word: -mine[word])
        shown = [word for word in ranked if token_id(word) in wanted]
        shown += [word for word in ranked[:top] if word not in shown]
        content.append(
            {
                **entry(piece, mine[piece]),
                "top_logprobs": [entry(word, mine[word]) for word in shown],
            }
        )
    return content
