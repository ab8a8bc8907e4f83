"""Any image-text-to-text model, without a cache between ticks: the newest pictures are put to it
anew each time (SimpleStream, recent-4).

Slower than the engine that keeps its context: every picture is encoded and every token fed again at
every tick.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList, StoppingCriteriaList

from stream_vlm.backbone.checkpoint.errors import ModelFault, QuestionTooLong
from stream_vlm.backbone.recompute.chat_prompt import Shown
from stream_vlm.backbone.recompute.generate import ChosenByReply, OverWithReply, Reply
from stream_vlm.backbone.recompute.loader import load_foreign
from stream_vlm.backbone.tokens.state_decision import NotFinite
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.config.settings import Settings
from stream_vlm.context.recalled_lines import together, within_budget
from stream_vlm.context.turn_formats import PROMPTED
from stream_vlm.model_protocol import SILENT, Outcome, Turn, Upcoming, WatchRefused, one_by_one
from stream_vlm.types import NANOSECONDS, Decision, StreamError
from stream_vlm.vision.preprocess import PictureError

MOST_PIXELS = 448 * 448
"""Pixels of a picture at most, where fewer cost less: hub checkpoints allow millions, which a
stream cannot afford.
"""
LEAST_SIDE = 8
"""Pixels; below it processors take a side for the colour channels, or divide it down to nothing."""

log = logging.getLogger(__name__)


class RecomputingModel:
    """A checkpoint of any architecture that transformers knows, made ready to watch."""

    def __init__(self, settings: Settings) -> None:
        """Load the checkpoint.

        Raises:
            CheckpointError: see `foreign.load_foreign`.
        """
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        self.settings = settings
        self.checkpoint = load_foreign(settings.model)
        self.seconds: Mapping[str, float] = {}
        log.warning("%s: %s", self.model_id, self.engine)

    @property
    def model_id(self) -> str:
        """Name and digest of the checkpoint."""
        return self.checkpoint.model_id

    @property
    def device(self) -> str:
        """Where it runs, for example "cpu" or "cuda:0"."""
        return str(self.checkpoint.model.device)

    @property
    def takes_any_size(self) -> bool:
        """Whether it looks at smaller pictures with less work; False for one fixed picture size."""
        return self.checkpoint.follows_picture_size

    @property
    def reads_memory(self) -> bool:
        """Whether a question can bring what is remembered about it: a chat takes any words."""
        return True

    @property
    def activity_threshold(self) -> float:
        """0: nothing is known of how sure it should be."""
        return 0.0

    @property
    def engine(self) -> str:
        """How it looks, in words for people."""
        architecture = self.checkpoint.model.config.model_type
        return (
            f"{architecture}: the last {self.settings.context.frames} pictures recomputed at every"
            " tick, slower than with a cache"
        )

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that it has no token for."""
        return self.checkpoint.writer.unknown_words(text)

    def open_stream(self, camera: str) -> RecomputedStream:
        """A new stream for `camera` that has seen nothing."""
        return RecomputedStream(self, camera)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Take one turn in each of several different streams, one after the other; see
        `model.Model.step`. `upcoming` is never asked.
        """
        seconds: dict[str, float] = {}

        def take(turn: Turn) -> Outcome:
            assert isinstance(turn.stream, RecomputedStream), (
                "streams are opened by the model that steps them"
            )
            return Outcome(turn.stream.take(turn, seconds))

        outcomes = one_by_one(turns, take)
        self.seconds = seconds
        return outcomes


@dataclass(frozen=True)
class Asked:
    """A question, and what was answered."""

    second: int
    text: str
    answer: str = ""

    def told(self) -> str:
        """What a later tick is told of it."""
        answered = f"Answered: {self.answer}\n" if self.answer else ""
        return f"Asked at {self.second}s: {self.text}\n{answered}"


class RecomputedStream:
    """One camera's newest pictures and its last question; nothing else is remembered.

    Attributes:
        shown: the pictures that the next prompt begins with, oldest first.
    """

    def __init__(self, model: RecomputingModel, camera: str) -> None:
        self.camera = camera
        self._model = model
        self._sampler = TokenSampler(model.settings.sampling)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.shown: list[Shown] = []
        self._asked: Asked | None = None
        self._first_stamp_ns: int | None = None

    def prepare(self) -> None:
        """Nothing: no part of a later step is known before its picture."""

    @torch.inference_mode()
    def take(self, turn: Turn, seconds: dict[str, float]) -> Decision:
        """Decide on the newest pictures and write the words of a response; adds wall time (s) by
        stage to `seconds`.

        Raises:
            PictureError: the picture cannot be looked at; the stream is unchanged.
            QuestionTooLong: pictures and question are longer than the model can read; the stream is
                unchanged.
            WatchRefused: pictures and watch are, without a question; the stream is unchanged.
            ModelFault: the model's numbers are not finite, or memory ran out; the stream begins
                anew.
        """
        started = time.perf_counter()
        writer = self._model.checkpoint.writer
        first_ns = turn.frame.stamp_ns if self._first_stamp_ns is None else self._first_stamp_ns
        second = (turn.frame.stamp_ns - first_ns) // NANOSECONDS
        question = writer.plain(turn.query.text) if turn.query is not None else ""
        label = PROMPTED.time.format(start=second, end=second + 1)
        shown = [
            *self.shown,
            Shown(label, self._picture(turn.frame.image, turn.limits.picture_share)),
        ][-self._model.settings.context.frames :]
        if not self._is_judged(turn):
            self.shown, self._first_stamp_ns = shown, first_ns
            return turn.gate(SILENT)
        longest = self._model.settings.decision.max_new_tokens
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)

        def on_decided() -> None:
            seconds["prefill"] = seconds.get("prefill", 0.0) + time.perf_counter() - started

        reply = Reply(
            self._model.checkpoint, self._sampler, turn.gate, turn.on_text, longest, on_decided
        )
        if turn.watch is not None:
            before, after = (
                PROMPTED.watch.replace("{query}", writer.plain(turn.watch.text)),
                question or PROMPTED.judge,
            )
        else:
            before, after = self._asked.told() if self._asked is not None else "", question
        remembered = self._remembered(turn)
        try:
            try:
                inputs = self._inputs(shown, remembered + before, after, reply.longest)
            except QuestionTooLong:
                if not remembered:
                    raise
                # A question is never too long because of what is remembered.
                inputs = self._inputs(shown, before, after, reply.longest)
        except QuestionTooLong as error:
            if turn.watch is None or turn.query is not None:
                raise
            # A watch that does not fit now would stop every later tick.
            raise WatchRefused(str(error)) from error
        decided = seconds.get("prefill", 0.0)
        try:
            self._generate(inputs, reply)
        except NotFinite as error:
            self.reset()
            raise ModelFault(
                f"{self.camera}: the model's logits are not finite; its pictures are forgotten (try"
                " model.dtype float32)"
            ) from error
        except torch.OutOfMemoryError as error:
            self.reset()
            torch.cuda.empty_cache()
            raise ModelFault(
                f"{self.camera}: the {self._model.device} device is out of memory and its pictures"
                " are forgotten; lower context.frames, watch fewer cameras, or take a smaller"
                " model"
            ) from error
        seconds["decode"] = (
            seconds.get("decode", 0.0)
            + time.perf_counter()
            - started
            - (seconds["prefill"] - decided)
        )
        decision = reply.outcome()
        self.shown, self._first_stamp_ns = shown, first_ns
        if turn.query is not None:
            self._asked = Asked(second, question, writer.plain(decision.text))
        return decision

    def _is_judged(self, turn: Turn) -> bool:
        """Whether `turn` asks for a decision; else its picture is only kept, as with any model that
        was never tuned for streams.
        """
        unasked = self._model.settings.decision.unprompted
        judges = PROMPTED.judges_unprompted if unasked == "auto" else unasked == "always"
        return judges or turn.query is not None or turn.watch is not None

    def _remembered(self, turn: Turn) -> str:
        """What the question brings of the past, and the watch, which is put anew with every
        picture.
        """
        past = together([query.past for query in (turn.query, turn.watch) if query is not None])
        if not past:
            return ""
        checkpoint = self._model.checkpoint

        def written(line: str) -> str:
            return checkpoint.writer.plain(line) + "\n"

        budget = self._model.settings.context.memory_tokens
        lines = within_budget(
            past, turn.frame.stamp_ns, budget, lambda line: checkpoint.writer.tokens(written(line))
        )
        return (
            PROMPTED.remembered.replace("{memory}", "".join(written(line) for line in lines))
            if lines
            else ""
        )

    def _picture(self, image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
        """`image` in the size that it is kept in: within the budget and `share` of it, where that
        costs the model less.
        """
        height, width = image.shape[:2]
        if min(height, width) < LEAST_SIDE:
            raise PictureError(
                f"{self.camera}: a picture of {width} x {height} pixels cannot be looked at; both"
                f" sides must have {LEAST_SIDE}"
            )
        if not self._model.checkpoint.follows_picture_size:
            return image
        shrink = math.sqrt(min(1.0, MOST_PIXELS / (height * width)) * share)
        if shrink == 1.0:
            return image
        size = max(LEAST_SIDE, round(width * shrink)), max(LEAST_SIDE, round(height * shrink))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _inputs(
        self, shown: Sequence[Shown], before: str, question: str, reply_tokens: int
    ) -> dict[str, torch.Tensor]:
        checkpoint = self._model.checkpoint
        try:
            inputs = checkpoint.writer.inputs(shown, before, question)
        except Exception as error:
            # Processors are foreign code of a hundred kinds; a picture that one stumbles over must
            # not end the stream.
            height, width = shown[-1].image.shape[:2]
            raise PictureError(
                f"{self.camera}: the model's processor refuses a picture of {width} x {height}"
                f" pixels ({type(error).__name__}: {error}); set the camera to an ordinary picture"
                " size"
            ) from error
        needed = inputs["input_ids"].shape[1] + reply_tokens
        if checkpoint.max_tokens is not None and needed > checkpoint.max_tokens:
            raise QuestionTooLong(
                f"{self.camera}: {len(shown)} pictures and words need {needed} tokens, but the"
                f" model reads {checkpoint.max_tokens}; lower context.frames, or ask or wait for it"
                " in fewer words"
            )
        # Floats become the model's kind; ids and masks stay what they are.
        return dict(inputs.to(checkpoint.model.device, dtype=checkpoint.model.dtype))

    def _generate(self, inputs: dict[str, torch.Tensor], reply: Reply) -> None:
        """One forward over the whole chat, which ends there unless it says to respond, then a
        forward for each token of the reply.
        """
        self._model.checkpoint.model.generate(
            **inputs,
            max_new_tokens=reply.longest,
            do_sample=False,
            logits_processor=LogitsProcessorList([ChosenByReply(reply)]),
            stopping_criteria=StoppingCriteriaList([OverWithReply(reply)]),
        )
