"""Runs an image-text-to-text model without a cache between ticks.

For each question and each judgement the model reads a new chat, which has only the newest pictures.
SimpleStream does the same with four pictures. This is slower than a model with a kept cache,
because all these pictures are encoded and all tokens are fed again. It is for models whose cache
cannot be kept, and for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from stream_vlm.backbone.checkpoint.errors import QuestionTooLong
from stream_vlm.backbone.foreign.chat_prompt import LabelledPicture
from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.backbone.foreign.model import ForeignModel, log
from stream_vlm.backbone.foreign.reply import Reply, probability_of_yes
from stream_vlm.backbone.foreign.stage_clock import StageClock
from stream_vlm.backbone.foreign.turn_texts import TurnTexts
from stream_vlm.backbone.recompute.generate import ReplyEnd, ReplyLogits
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.config.settings import Settings
from stream_vlm.context.instructions import verify_prompt
from stream_vlm.model_protocol import SILENT, Judgement, Outcome, Turn, WatchRefused
from stream_vlm.types import NANOSECONDS, Decision, State


class RecomputingModel(ForeignModel):
    """A checkpoint that reads its newest pictures again whenever it is asked."""

    def __init__(self, checkpoint: ForeignCheckpoint, settings: Settings, reason: str = "") -> None:
        """Take over the loaded `checkpoint`.

        Args:
            checkpoint: the checkpoint.
            settings: all settings of the program.
            reason: why its cache is not kept, for people.
        """
        super().__init__(checkpoint, settings)
        self._reason = reason
        log.warning("%s: %s", self.model_id, self.engine)

    @property
    def engine(self) -> str:
        """A description of the model and its context, for people."""
        architecture = self.checkpoint.model.config.model_type
        because = f", because {self._reason}" if self._reason else ""
        return (
            f"{architecture}: the last {self.settings.context.frames} pictures recomputed at every"
            f" tick, slower than with a cache{because}"
        )

    def open_stream(self, camera: str) -> RecomputedStream:
        """A new stream for `camera`, with an empty context."""
        return RecomputedStream(self, camera)


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question and its answer.

    Attributes:
        second: when it was asked, whole seconds since the stream's first frame.
        text: the question.
        answer: the answer; may be empty.
    """

    second: int
    text: str
    answer: str = ""

    def as_prompt(self) -> str:
        """The question and its answer as text for later prompts."""
        answered = f"Answered: {self.answer}\n" if self.answer else ""
        return f"Asked at {self.second}s: {self.text}\n{answered}"


class RecomputedStream:
    """The context of one camera: its newest pictures and its last question.

    Attributes:
        camera: name of the camera.
        shown: the newest pictures, oldest first.
    """

    def __init__(self, model: RecomputingModel, camera: str) -> None:
        self.camera = camera
        self._model = model
        self._sampler = TokenSampler(model.settings.sampling)
        self._texts = TurnTexts(model.checkpoint, camera, model.settings.context.memory_tokens)
        self.reset()

    def reset(self) -> None:
        """Clear the context."""
        self.shown: list[LabelledPicture] = []
        self._asked: AnsweredQuestion | None = None
        self._first_stamp_ns: int | None = None

    def prepare(self) -> None:
        """Do nothing: no part of a later step can be computed before its picture."""

    @torch.inference_mode()
    def take(self, turn: Turn, seconds: dict[str, float]) -> Outcome:
        """See `model.ForeignStream.take`.

        A turn without a question or a judgement only keeps its picture.

        Raises:
            PictureError: the picture cannot be processed; the stream is unchanged.
            QuestionTooLong: pictures and question do not fit into the model's context; the stream
                is unchanged.
            WatchRefused: pictures and an instruction do not fit; the stream is unchanged.
            NotFinite: the logits are not finite.
        """
        first_ns = turn.frame.stamp_ns if self._first_stamp_ns is None else self._first_stamp_ns
        shown = [
            *self.shown,
            LabelledPicture(
                self._texts.time(turn.frame.stamp_ns, first_ns),
                self._texts.picture(turn.frame.image, turn.limits.picture_share),
            ),
        ][-self._model.settings.context.frames :]
        longest = self._model.settings.decision.max_new_tokens
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)
        asked = self._asked
        decision = (
            turn.gate(SILENT) if turn.query is None else self._answer(turn, shown, longest, seconds)
        )
        if turn.query is not None:
            plain = self._model.checkpoint.writer.plain
            asked = AnsweredQuestion(
                (turn.frame.stamp_ns - first_ns) // NANOSECONDS,
                plain(turn.query.text),
                plain(decision.text),
            )
        before = self._asked.as_prompt() if self._asked is not None else ""
        judged = {
            judgement.instruction.instruction_id: self._judge(
                judgement,
                shown,
                before,
                self._texts.judge(judgement, first_ns),
                longest,
                seconds,
            )
            for judgement in turn.judgements
        }
        self.shown, self._first_stamp_ns, self._asked = shown, first_ns, asked
        return Outcome(decision, judged=judged)

    def _answer(
        self,
        turn: Turn,
        shown: Sequence[LabelledPicture],
        longest: int,
        seconds: dict[str, float],
    ) -> Decision:
        assert turn.query is not None
        checkpoint = self._model.checkpoint
        question = checkpoint.writer.plain(turn.query.text)
        before = self._asked.as_prompt() if self._asked is not None else ""
        recalled = self._texts.recalled(turn.query, turn.frame.stamp_ns)
        clock = StageClock(seconds)
        reply = Reply(
            checkpoint,
            self._sampler,
            turn.gate,
            turn.on_text,
            longest,
            lambda: clock.stop("prefill"),
            is_answer=True,
        )
        try:
            inputs = self._inputs(shown, recalled + before, question, reply.longest)
        except QuestionTooLong:
            if not recalled:
                raise
            # A question is never refused because of recalled lines.
            inputs = self._inputs(shown, before, question, reply.longest)
        self._generate(inputs, reply)
        clock.stop("decode")
        return reply.outcome()

    def _judge(
        self,
        judgement: Judgement,
        shown: Sequence[LabelledPicture],
        before: str,
        prompt: str,
        longest: int,
        seconds: dict[str, float],
    ) -> Decision:
        checkpoint = self._model.checkpoint
        clock = StageClock(seconds)
        reply = Reply(
            checkpoint, self._sampler, judgement.gate, None, longest, lambda: clock.stop("prefill")
        )
        try:
            inputs = self._inputs(shown, before, prompt, reply.longest)
        except QuestionTooLong as error:
            # An instruction that does not fit would make every later tick fail.
            raise WatchRefused(str(error)) from error
        self._generate(inputs, reply)
        clock.stop("decode")
        decision = reply.outcome()
        if not (judgement.verify and decision.state is State.RESPONSE and decision.text):
            return decision
        clock = StageClock(seconds)
        again = self._inputs(
            shown, before, verify_prompt(checkpoint.writer.plain(decision.text)), 1
        )
        logits = checkpoint.model(**again, use_cache=False).logits[0, -1].float()
        clock.stop("prefill")
        return replace(decision, verified=probability_of_yes(logits, checkpoint))

    def _inputs(
        self, shown: Sequence[LabelledPicture], before: str, question: str, reply_tokens: int
    ) -> dict[str, torch.Tensor]:
        checkpoint = self._model.checkpoint
        try:
            inputs = checkpoint.writer.inputs(shown, before, question)
        except Exception as error:
            # Processors are foreign code and can raise anything, which must not end the stream.
            raise self._texts.refused(shown[-1].image, error) from error
        needed = inputs["input_ids"].shape[1] + reply_tokens
        if checkpoint.max_tokens is not None and needed > checkpoint.max_tokens:
            raise QuestionTooLong(
                f"{self.camera}: {len(shown)} pictures and the text need {needed} tokens, but the"
                f" model reads {checkpoint.max_tokens}; lower context.frames, or use fewer words in"
                " the question or the instruction"
            )
        # Only floats take the model's dtype; ids and masks keep theirs.
        return dict(inputs.to(checkpoint.model.device, dtype=checkpoint.model.dtype))

    def _generate(self, inputs: dict[str, torch.Tensor], reply: Reply) -> None:
        """Run one forward pass over the whole chat, and one for each token of a response."""
        self._model.checkpoint.model.generate(
            **inputs,
            max_new_tokens=reply.longest,
            do_sample=False,
            logits_processor=LogitsProcessorList([ReplyLogits(reply)]),
            stopping_criteria=StoppingCriteriaList([ReplyEnd(reply)]),
        )
