"""Token ids of the fixed parts of a turn: state markers, end marks, the picture token."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.tokens.first_ids import first_ids
from stream_vlm.context.instructions import NO, YES
from stream_vlm.context.segments import tokens_in
from stream_vlm.context.turn_formats import TurnWriter
from stream_vlm.types import State


@dataclass(frozen=True)
class TurnTokens:
    """Token ids of the parts of a turn that never change.

    Attributes:
        prefix: number of tokens that every context begins with.
        markers: ids of the marker of each state. A decision is read from the first id of each
            marker, and these first ids differ. If a response has no marker, it has no entry and
            begins with its words.
        firsts: the ids from which the probability of each state is read. It is the first id of its
            marker; an instruct model may also write the word with a space or a small letter.
        answers: the ids from which the probabilities of yes and of no are read; empty if the model
            is not an instruct model.
        response_end: the id that ends the words of a response; may be empty.
        stop: ids that end an utterance.
        picture: id of the placeholder for one vision token.
    """

    prefix: int
    markers: dict[State, tuple[int, ...]]
    firsts: dict[State, tuple[int, ...]]
    answers: tuple[tuple[int, ...], ...]
    response_end: tuple[int, ...]
    stop: frozenset[int]
    picture: int

    @property
    def longest_marker(self) -> int:
        """The most tokens of a state marker."""
        return max(len(marker) for marker in self.markers.values())

    @property
    def not_a_first_word(self) -> list[int]:
        """Ids that cannot begin a response: they begin another state or end an utterance."""
        return sorted(
            {marker[0] for marker in self.markers.values()} | self.stop | set(self.response_end)
        )


def read_turn_tokens(
    tokenizer: PreTrainedTokenizerBase, writer: TurnWriter, model_id: str
) -> TurnTokens:
    """Read the ids that `tokenizer` has for the turn format of `writer`.

    Raises:
        CheckpointError: the tokenizer cannot express the states or the end marks; the message
            names `model_id` and the remedy.
    """
    turns = writer.turns
    markers = {
        state: tuple(writer.encode(turns.marker(state))) for state in State if turns.marker(state)
    }
    firsts = [ids[0] for ids in markers.values() if ids]
    unknown = tokenizer.unk_token_id
    if len(set(firsts)) < len(markers) or State.SILENCE not in markers or unknown in firsts:
        raise CheckpointError(
            f"{model_id}: the state markers {[turns.marker(state) for state in markers]}"
            " do not begin with different tokens of this tokenizer, so the states cannot be"
            " distinguished; add them as tokens (stream-vlm train --add-markers), name others in"
            " stream_config.json, or set model.prompt_format"
        )
    vocabulary = tokenizer.get_vocab()
    stop = frozenset(vocabulary[token] for token in turns.stop if token in vocabulary)
    if not stop:
        raise CheckpointError(
            f"{model_id}: none of the stop tokens {turns.stop} is in the tokenizer; name"
            " others in stream_config.json"
        )
    response_end = tuple(writer.encode(turns.response_end))
    if len(response_end) > 1 or unknown in response_end:
        raise CheckpointError(
            f"{model_id}: response_end {turns.response_end!r} is not one token of this"
            " tokenizer, so the end of a response cannot be distinguished from its words; add it"
            " as a token or name another in stream_config.json"
        )
    readings: dict[State, tuple[int, ...]] = {state: (ids[0],) for state, ids in markers.items()}
    answers: tuple[tuple[int, ...], ...] = ()
    if turns.instruct:
        words = first_ids([turns.marker(state) for state in markers], writer.encode, unknown)
        readings = dict(zip(markers, words, strict=True))
        answers = tuple(first_ids([YES, NO], writer.encode, unknown))
        if not all(answers):
            raise CheckpointError(
                f"{model_id}: the words {YES} and {NO} do not begin with different tokens of this"
                " tokenizer, so no report can be checked; use a checkpoint with a larger vocabulary"
            )
    return TurnTokens(
        tokens_in(writer.prefix()), markers, readings, answers, response_end, stop, writer.picture
    )
