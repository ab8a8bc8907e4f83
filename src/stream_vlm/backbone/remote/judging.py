"""The exchanges of one tick: a state for each instruction, the words, the second look, answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stream_vlm.backbone.remote.conversation import NOTHING_KNOWN, Conversation
from stream_vlm.backbone.remote.exchanges import Ask, Exchange, Reply, usage_of
from stream_vlm.backbone.remote.labels import LabelReader, mean_probability
from stream_vlm.backbone.tokens.spoken_words import spoken_words
from stream_vlm.config.model_settings import SamplingSettings
from stream_vlm.context.instructions import LABELS, YES, judge_prompt, verify_prompt
from stream_vlm.model_protocol import Judgement
from stream_vlm.types import NANOSECONDS, Decision, State
from stream_vlm.unicode_text import mend

STATES = tuple(LABELS)
STATE_LABELS = tuple(LABELS.values())

_LABEL = re.compile(rf"^\W*{LABELS[State.RESPONSE]}\b[\s.,:;]*", re.IGNORECASE)


@dataclass(frozen=True)
class Phrasing:
    """How the server is asked.

    Attributes:
        states: reads the states.
        yes_no: reads yes and no.
        continues: whether it continues a reply that is begun.
        logprobs: whether it gives the log probabilities of words.
    """

    states: LabelReader
    yes_no: LabelReader
    continues: bool
    logprobs: bool


@dataclass(frozen=True)
class TickContext:
    """What all exchanges of a tick share.

    Attributes:
        conversation: with the newest picture at its end; it does not change during the exchanges.
        known: names of the pictures that the server has.
        phrasing: how the server is asked.
        first_ns: stamp of the camera's first frame, ns.
        words: the fields of a request for words.
        on_prompt: hears how many tokens a prompt had, where the server tells.
        session: names the stream.
    """

    conversation: Conversation
    known: frozenset[str]
    phrasing: Phrasing
    first_ns: int
    words: Mapping[str, Any]
    on_prompt: Callable[[int], None]
    session: str

    def ask(self, question: str, fields: Mapping[str, Any], stage: str, begun: str = "") -> Ask:
        """A request with `question` behind the pictures."""
        more = dict(fields)
        if begun:
            more |= {"continue_final_message": True, "add_generation_prompt": False}

        def body(by_name: bool) -> dict[str, Any]:
            known = self.known if by_name else NOTHING_KNOWN
            messages = self.conversation.messages(question, begun, known)
            return {"messages": messages, "temperature": 0.0, **more}

        return Ask(body, stage, self.session)


def word_fields(sampling: SamplingSettings, longest: int, *, logprobs: bool) -> dict[str, Any]:
    """The fields of a request for words; a value that changes nothing is left out.

    Args:
        sampling: how the words are chosen.
        longest: the most tokens.
        logprobs: whether the server gives the log probabilities of words.
    """
    sampling = sampling.or_published()
    fields: dict[str, Any] = {"max_tokens": longest, "temperature": sampling.temperature}
    if logprobs:
        fields["logprobs"] = True
    if sampling.temperature > 0.0:
        fields["seed"] = sampling.seed
        if sampling.top_p < 1.0:
            fields["top_p"] = sampling.top_p
        if sampling.top_k:
            fields["top_k"] = sampling.top_k
    if sampling.repetition_penalty != 1.0:
        fields["repetition_penalty"] = sampling.repetition_penalty
    return fields


def judged(tick: TickContext, judgement: Judgement) -> Exchange[Decision]:
    """Judge one instruction at the newest picture.

    The state is asked for first; only a response that passes the gate costs words, and a second
    look where the judgement wants one.
    """
    prompt = judge_prompt(
        judgement.instruction.text,
        judgement.reported,
        max(0, judgement.reported_ns - tick.first_ns) / NANOSECONDS,
    )
    reply = yield tick.ask(prompt, tick.phrasing.states.fields(), "states")
    tick.on_prompt(usage_of(reply)[0])
    decision = judgement.gate(state_decision(tick.phrasing.states.read(reply)))
    if decision.state is not State.RESPONSE:
        return decision
    begun = LABELS[State.RESPONSE] if tick.phrasing.continues else ""
    reply = yield tick.ask(prompt, tick.words, "words", begun)
    text = words_of(reply, report=True)
    decision = replace(
        decision, text=text, confidence=decision.confidence * mean_probability(reply)
    )
    if not text or not judgement.verify:
        return decision
    yes_no = tick.phrasing.yes_no
    reply = yield tick.ask(verify_prompt(text), yes_no.fields(), "verify")
    return replace(decision, verified=yes_no.read(reply)[YES])


def answered(
    tick: TickContext, question: str, on_text: Callable[[str], None] | None
) -> Exchange[Decision]:
    """Answer a question; the confidence is that of the words alone."""
    reply = yield tick.ask(question, tick.words, "words")
    tick.on_prompt(usage_of(reply)[0])
    text = words_of(reply, report=False)
    if on_text is not None:
        on_text(text)
    probabilities = dict.fromkeys(State, 0.0) | {State.RESPONSE: 1.0}
    return Decision(State.RESPONSE, probabilities, text, confidence=mean_probability(reply))


def state_decision(by_label: dict[str, float]) -> Decision:
    """The likeliest state, from the probability of each label."""
    probabilities = {state: by_label[LABELS[state]] for state in STATES}
    state = max(probabilities, key=lambda candidate: probabilities[candidate])
    return Decision(state, probabilities, confidence=probabilities[state])


def words_of(reply: Reply, *, report: bool) -> str:
    """The words of a reply, without a state before them and without a word that was cut.

    Args:
        reply: the server's reply.
        report: whether the reply is the words of a state, which some servers write again.
    """
    choice = reply["choices"][0]
    text = mend(str(choice["message"].get("content") or ""))
    if report:
        text = spoken_words(_LABEL.sub("", text, count=1)).partition("\n")[0]
    text = spoken_words(text)
    if choice.get("finish_reason") == "length" and " " in text:
        text = text.rpartition(" ")[0].rstrip(" ,;:")
    return text
