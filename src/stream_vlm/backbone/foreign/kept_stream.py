"""The stream of one camera through a model of another architecture, in the model's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.foreign.chat_pieces import ChatPieces
from stream_vlm.backbone.foreign.chat_prompt import LabelledPicture
from stream_vlm.backbone.foreign.kept_context import Inputs, KeptContext
from stream_vlm.backbone.foreign.reply import Reply, probability_of_yes
from stream_vlm.backbone.foreign.stage_clock import StageClock
from stream_vlm.backbone.foreign.turn_texts import TurnTexts
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.context.instructions import verify_prompt
from stream_vlm.model_protocol import SILENT, Judgement, Outcome, Turn, WatchRefused
from stream_vlm.types import Decision, State

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_TOKENS = 16384
"""The most tokens of a context, even if the model was trained for more."""
CHUNK_TURNS = 120
"""Turns of a chunk if the settings do not say."""


class KeptStream:
    """The context of one camera, which grows until a new chunk begins.

    A tick feeds the time and the picture of its frame. Questions and judgements are fed to branches
    of the context, so that the context holds only video, what was asked and what was said.

    At the border of a chunk the context begins again with what happened before, in words, and with
    the newest pictures (chunks: Streaming Harness, arXiv 2606.08615).

    Args:
        camera: name of the camera.
        texts: writes the texts of the turns.
        pieces: the texts of the chat template.
        sampler: chooses the tokens of words.
        longest_words: gives the most tokens of a reply.
        chunk_turns: gives the most turns of a chunk.
        overlap: pictures at the beginning of a chunk, the new one included.

    Attributes:
        camera: name of the camera.
        context: the context; None before the first turn.
    """

    def __init__(
        self,
        camera: str,
        texts: TurnTexts,
        pieces: ChatPieces,
        sampler: TokenSampler,
        longest_words: Callable[[], int],
        chunk_turns: Callable[[], int],
        overlap: int,
    ) -> None:
        self.camera = camera
        self._texts, self._pieces, self._sampler = texts, pieces, sampler
        self._checkpoint = texts.checkpoint
        self._longest_words, self._chunk_turns, self._overlap = longest_words, chunk_turns, overlap
        self._most_tokens = min(MOST_TOKENS, self._checkpoint.max_tokens or MOST_TOKENS)
        self.reset()

    def reset(self) -> None:
        """Clear the context."""
        self.context: KeptContext | None = None
        self._turns = 0
        self._recent: list[LabelledPicture] = []
        self._pending = ""
        self._written: dict[str, str] = {}
        self._first_ns: int | None = None
        self._newest_ns = 0

    def prepare(self) -> None:
        """Do nothing: no part of a later step can be computed before its picture."""

    @torch.inference_mode()
    def take(self, turn: Turn, seconds: dict[str, float]) -> Outcome:
        """See `model.ForeignStream.take`.

        Raises:
            PictureError: the picture cannot be processed.
            QuestionTooLong: the question does not fit into the model's context.
            WatchRefused: an instruction does not fit.
            NotFinite: the logits are not finite.
        """
        clock = StageClock(seconds)
        frame = turn.frame
        first_ns = frame.stamp_ns if self._first_ns is None else self._first_ns
        shown = LabelledPicture(
            self._texts.time(frame.stamp_ns, first_ns),
            self._texts.picture(frame.image, turn.limits.picture_share),
        )
        longest = self._longest_words()
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)
        question = self._texts.checkpoint.writer.plain(turn.query.text) if turn.query else ""
        prompts = {
            judgement: self._texts.judge(judgement, first_ns) for judgement in turn.judgements
        }
        reserve = self._reserve(question, prompts, longest)
        begun, inputs = self._next_context(turn, shown, reserve)
        context = begun or self.context
        assert context is not None
        context.feed(inputs)
        self._turns = 1 if begun else self._turns + 1
        self.context = context
        self._first_ns, self._newest_ns = first_ns, frame.stamp_ns
        self._recent = [*self._recent, shown][-max(1, self._overlap - 1) :]
        self._pending, self._written = "", {}
        clock.stop("prefill")
        decision = (
            turn.gate(SILENT) if not question else self._answer(turn, question, longest, clock)
        )
        judged = {
            judgement.instruction.instruction_id: self._judge(judgement, prompt, longest, clock)
            for judgement, prompt in prompts.items()
        }
        return Outcome(decision, judged=judged)

    def _answer(self, turn: Turn, question: str, longest: int, clock: StageClock) -> Decision:
        assert turn.query is not None
        assert self.context is not None
        asked = question + self._pieces.asked
        ids = self._ids(self._texts.recalled(turn.query, turn.frame.stamp_ns) + asked)
        reply = Reply(
            self._checkpoint,
            self._sampler,
            turn.gate,
            turn.on_text,
            longest,
            lambda: clock.stop("prefill"),
            is_answer=True,
        )
        branch = self.context.branch()
        if self.context.length + len(ids) + reply.longest > self._most_tokens:
            # A question is never refused because of recalled lines.
            ids = self._ids(asked)
        _write(branch, ids, reply)
        clock.stop("decode")
        decision = reply.outcome()
        if decision.text:
            self._pending = asked + self._checkpoint.writer.plain(decision.text)
            self._pending += self._pieces.answered
        return decision

    def _judge(
        self, judgement: Judgement, prompt: str, longest: int, clock: StageClock
    ) -> Decision:
        assert self.context is not None
        reply = Reply(
            self._checkpoint,
            self._sampler,
            judgement.gate,
            None,
            longest,
            lambda: clock.stop("prefill"),
        )
        _write(self.context.branch(), self._ids(prompt + self._pieces.asked), reply)
        clock.stop("decode")
        decision = reply.outcome()
        if decision.state is State.RESPONSE and decision.text:
            self._written[judgement.instruction.instruction_id] = decision.text
            if judgement.verify:
                decision = self._verified(decision, clock)
        return decision

    def _verified(self, decision: Decision, clock: StageClock) -> Decision:
        assert self.context is not None
        text = verify_prompt(self._checkpoint.writer.plain(decision.text)) + self._pieces.asked
        logits = self.context.branch().feed_ids(self._ids(text))
        clock.stop("prefill")
        return Decision(
            decision.state,
            decision.probabilities,
            decision.text,
            decision.confidence,
            probability_of_yes(logits, self._checkpoint),
        )

    def _said(self, judgements: Sequence[Judgement]) -> str:
        """The reports of the last turn that were really said, as a reply in the context.

        The loop may hold a report back; what it said comes back as the last report.
        """
        said = [
            self._checkpoint.writer.plain(judgement.reported)
            for judgement in judgements
            if judgement.reported_ns == self._newest_ns
            and judgement.reported
            and self._written.get(judgement.instruction.instruction_id) == judgement.reported
        ]
        return (
            self._pieces.shown + " ".join(dict.fromkeys(said)) + self._pieces.answered
            if said
            else ""
        )

    def _next_context(
        self, turn: Turn, shown: LabelledPicture, reserve: int
    ) -> tuple[KeptContext | None, Inputs]:
        """A new context if a chunk begins, and what the turn appends.

        Raises:
            PictureError: the picture cannot be processed.
            QuestionTooLong: the texts of the turn do not fit into a new context either.
            WatchRefused: the same without a question.
        """
        if self.context is not None and self._turns < self._chunk_turns():
            said = self._said(turn.judgements) + self._pending
            inputs = self._inputs(said, [shown], first=False)
            if self.context.length + inputs["input_ids"].shape[1] + reserve <= self._most_tokens:
                return None, inputs
        earlier = self._texts.earlier(turn.memory() if turn.memory is not None else ())
        pictures = [*self._recent, shown][-self._overlap :]
        # If not everything fits, the oldest pictures are left out, then the words.
        ways = [(earlier, pictures[count:]) for count in range(len(pictures))] + [("", [shown])]
        for words, some in ways:
            inputs = self._inputs(self._pieces.head + words, some, first=True)
            needed = inputs["input_ids"].shape[1] + reserve
            if needed <= self._most_tokens:
                return KeptContext(self._checkpoint.model), inputs
        raise (QuestionTooLong if turn.query is not None else WatchRefused)(
            f"{self.camera}: a picture and the words of the turn need {needed} tokens, but the"
            f" model reads {self._most_tokens}; use fewer words in the question or the instruction"
        )

    def _inputs(self, before: str, shown: Sequence[LabelledPicture], *, first: bool) -> Inputs:
        text = before + "".join(one.label + self._pieces.picture for one in shown)
        try:
            inputs = self._checkpoint.writer.piece(text, [one.image for one in shown], first=first)
        except Exception as error:
            # Processors are foreign code and can raise anything, which must not end the stream.
            raise self._texts.refused(shown[-1].image, error) from error
        # Only floats take the model's dtype; ids and masks keep theirs.
        model = self._checkpoint.model
        return dict(inputs.to(model.device, dtype=model.dtype))

    def _ids(self, text: str) -> list[int]:
        return self._checkpoint.writer.ids(text)

    def _reserve(self, question: str, prompts: dict[Judgement, str], longest: int) -> int:
        """The most tokens that a branch of this turn adds, what the memory recalls left out."""
        texts = [*prompts.values(), *([question] if question else [])]
        if any(judgement.verify for judgement in prompts):
            texts.append(verify_prompt(""))
            longest *= 2
        longest += max(len(ids) for ids in self._checkpoint.states[State.RESPONSE]) + 1
        return (
            max((len(self._ids(text + self._pieces.asked)) for text in texts), default=0) + longest
        )


def _write(branch: KeptContext, ids: list[int], reply: Reply) -> None:
    """Feed `ids`, then each token that `reply` chooses, until it is complete."""
    logits = branch.feed_ids(ids)
    while True:
        token = reply.choose(logits)
        if reply.is_over:
            return
        logits = branch.feed_ids([token])
