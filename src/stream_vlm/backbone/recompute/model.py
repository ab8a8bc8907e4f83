"""Runs any image-text-to-text model without a cache between ticks.

Every tick is a new chat with the newest pictures (SimpleStream, recent-4). This is slower than a
model with a KV cache, because every tick encodes all these pictures and feeds all tokens again.
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
from stream_vlm.backbone.recompute.chat_prompt import LabelledPicture
from stream_vlm.backbone.recompute.generate import Reply, ReplyEnd, ReplyLogits
from stream_vlm.backbone.recompute.loader import load_foreign
from stream_vlm.backbone.tokens.state_decision import NotFinite
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.config.settings import Settings
from stream_vlm.config.stream_settings import DEFAULT_RATE_HZ
from stream_vlm.context.recalled_lines import lines_within_budget, merge_recalled
from stream_vlm.context.turn_formats import PROMPTED
from stream_vlm.model_protocol import SILENT, Outcome, Turn, Upcoming, WatchRefused, one_by_one
from stream_vlm.types import NANOSECONDS, Decision, StreamError
from stream_vlm.vision.preprocess import PictureError

MOST_PIXELS = 448 * 448
"""The most pixels of a picture if smaller pictures cost less.

Published checkpoints allow millions of pixels, which is too slow for a stream.
"""
LEAST_SIDE = 8
"""The shortest side of a picture, pixels; processors fail on smaller pictures."""

log = logging.getLogger(__name__)


class RecomputingModel:
    """A loaded image-text-to-text checkpoint of any architecture that transformers knows.

    Attributes:
        settings: all settings of the program.
        checkpoint: the loaded checkpoint.
        seconds: wall time of the last step by stage, seconds.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the checkpoint.

        Raises:
            CheckpointError: see `loader.load_foreign`.
        """
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        self.settings = settings
        self.checkpoint = load_foreign(settings.model)
        settings.stream.take_own_rate(self.rate_hz)
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
        """Whether smaller pictures cost less; False for a model with one fixed picture size."""
        return self.checkpoint.follows_picture_size

    @property
    def reads_memory(self) -> bool:
        """True: a chat can contain what the memory found."""
        return True

    @property
    def rate_hz(self) -> float:
        """One tick a second: these models name no rate of their own."""
        return DEFAULT_RATE_HZ

    @property
    def activity_threshold(self) -> float:
        """0: the threshold is not calibrated for these models."""
        return 0.0

    @property
    def engine(self) -> str:
        """A description of the model and its context, for people."""
        architecture = self.checkpoint.model.config.model_type
        return (
            f"{architecture}: the last {self.settings.context.frames} pictures recomputed at every"
            " tick, slower than with a cache"
        )

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that the tokenizer has no token for."""
        return self.checkpoint.writer.unknown_words(text)

    def open_stream(self, camera: str) -> RecomputedStream:
        """A new stream for `camera`, with an empty context."""
        return RecomputedStream(self, camera)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Run one step of several streams, one after the other; see `model_protocol.Model.step`.

        `upcoming` is never called.
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
        self.reset()

    def reset(self) -> None:
        """Clear the context."""
        self.shown: list[LabelledPicture] = []
        self._asked: AnsweredQuestion | None = None
        self._first_stamp_ns: int | None = None

    def prepare(self) -> None:
        """Do nothing: no part of a later step can be computed before its picture."""

    @torch.inference_mode()
    def take(self, turn: Turn, seconds: dict[str, float]) -> Decision:
        """Decide on the newest pictures and write the words of a response.

        Args:
            turn: the turn.
            seconds: wall time by stage, in seconds; the time of this turn is added.

        Raises:
            PictureError: the picture cannot be processed; the stream is unchanged.
            QuestionTooLong: pictures and question do not fit into the model's context; the stream
                is unchanged.
            WatchRefused: pictures and watch do not fit, and there is no question; the stream is
                unchanged.
            ModelFault: the logits are not finite, or memory ran out; the context is cleared.
        """
        started = time.perf_counter()
        writer = self._model.checkpoint.writer
        first_ns = turn.frame.stamp_ns if self._first_stamp_ns is None else self._first_stamp_ns
        second = (turn.frame.stamp_ns - first_ns) // NANOSECONDS
        question = writer.plain(turn.query.text) if turn.query is not None else ""
        label = PROMPTED.time.format(start=second, end=second + 1)
        shown = [
            *self.shown,
            LabelledPicture(label, self._picture(turn.frame.image, turn.limits.picture_share)),
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
            before, after = self._asked.as_prompt() if self._asked is not None else "", question
        recalled_text = self._recalled(turn)
        try:
            try:
                inputs = self._inputs(shown, recalled_text + before, after, reply.longest)
            except QuestionTooLong:
                if not recalled_text:
                    raise
                # A question is never refused because of recalled lines.
                inputs = self._inputs(shown, before, after, reply.longest)
        except QuestionTooLong as error:
            if turn.watch is None or turn.query is not None:
                raise
            # A watch that does not fit would make every later tick fail.
            raise WatchRefused(str(error)) from error
        decided = seconds.get("prefill", 0.0)
        try:
            self._generate(inputs, reply)
        except NotFinite as error:
            self.reset()
            raise ModelFault(
                f"{self.camera}: the model's logits are not finite; its context is cleared (try"
                " model.dtype float32)"
            ) from error
        except torch.OutOfMemoryError as error:
            self.reset()
            torch.cuda.empty_cache()
            raise ModelFault(
                f"{self.camera}: the {self._model.device} device is out of memory and the context"
                " is cleared; lower context.frames, watch fewer cameras, or use a smaller model"
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
            self._asked = AnsweredQuestion(second, question, writer.plain(decision.text))
        return decision

    def _is_judged(self, turn: Turn) -> bool:
        """Whether the model decides at `turn`.

        If not, the picture is only kept. This is the default without a watch or a question, because
        these models are not tuned for streams.
        """
        unprompted = self._model.settings.decision.unprompted
        judges = PROMPTED.judges_unprompted if unprompted == "auto" else unprompted == "always"
        return judges or turn.query is not None or turn.watch is not None

    def _recalled(self, turn: Turn) -> str:
        """The lines that the memory found for the question and for the watch, as text.

        The lines of a watch are in the prompt of every tick.
        """
        recalled = merge_recalled(
            [query.recalled for query in (turn.query, turn.watch) if query is not None]
        )
        if not recalled:
            return ""
        checkpoint = self._model.checkpoint

        def written(line: str) -> str:
            return checkpoint.writer.plain(line) + "\n"

        budget = self._model.settings.context.memory_tokens
        lines = lines_within_budget(
            recalled,
            turn.frame.stamp_ns,
            budget,
            lambda line: checkpoint.writer.tokens(written(line)),
        )
        return (
            PROMPTED.recalled.replace("{memory}", "".join(written(line) for line in lines))
            if lines
            else ""
        )

    def _picture(self, image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
        """Resize `image` to `share` of the pixel budget, if smaller pictures cost less."""
        height, width = image.shape[:2]
        if min(height, width) < LEAST_SIDE:
            raise PictureError(
                f"{self.camera}: a picture of {width} x {height} pixels cannot be processed; both"
                f" sides must have at least {LEAST_SIDE} pixels"
            )
        if not self._model.checkpoint.follows_picture_size:
            return image
        shrink = math.sqrt(min(1.0, MOST_PIXELS / (height * width)) * share)
        if shrink == 1.0:
            return image
        size = max(LEAST_SIDE, round(width * shrink)), max(LEAST_SIDE, round(height * shrink))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _inputs(
        self, shown: Sequence[LabelledPicture], before: str, question: str, reply_tokens: int
    ) -> dict[str, torch.Tensor]:
        checkpoint = self._model.checkpoint
        try:
            inputs = checkpoint.writer.inputs(shown, before, question)
        except Exception as error:
            # Processors are foreign code and can raise anything, which must not end the stream.
            height, width = shown[-1].image.shape[:2]
            raise PictureError(
                f"{self.camera}: the model's processor refuses a picture of {width} x {height}"
                f" pixels ({type(error).__name__}: {error}); set the camera to another picture"
                " size"
            ) from error
        needed = inputs["input_ids"].shape[1] + reply_tokens
        if checkpoint.max_tokens is not None and needed > checkpoint.max_tokens:
            raise QuestionTooLong(
                f"{self.camera}: {len(shown)} pictures and the text need {needed} tokens, but the"
                f" model reads {checkpoint.max_tokens}; lower context.frames, or use fewer words in"
                " the question or the watch"
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
