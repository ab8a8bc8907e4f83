"""Replays recorded StreamingVLM runs with this package's engine and reports where they differ."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from transformers import RepetitionPenaltyLogitsProcessor

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.context.policies.sliding import SlidingPolicy
from stream_vlm.context.segments import Segment, SegmentKind
from stream_vlm.context.turn_formats import STREAMING_VLM, TurnWriter
from stream_vlm.vision.tower import TorchVisionTower, VisionTokens
from stream_vlm_lab.evaluation.streamingvlm_trace.comparison import Comparison
from stream_vlm_lab.evaluation.streamingvlm_trace.files import Trace, TraceError

STAGES = ("vision", "arrange", "prefill", "decode")


@dataclass
class Replay:
    """Result of a replay.

    Attributes:
        name: name of the trace.
        rounds: number of rounds.
        comparisons: one comparison for each recorded quantity.
        seconds: for each stage, the wall time of each round in seconds.
    """

    name: str
    rounds: int
    comparisons: list[Comparison]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    @property
    def agrees(self) -> bool:
        """True if every quantity agrees."""
        return all(comparison.agrees for comparison in self.comparisons)

    def median_ms(self, stage: str) -> float:
        """Median wall time of `stage` in a round, in milliseconds."""
        return statistics.median(self.seconds[stage]) * 1e3


def replay_trace(
    checkpoint: Checkpoint,
    trace: Trace,
    tolerance: float = 1e-3,
    on_round: Callable[[], object] | None = None,
) -> Replay:
    """Run `trace` again and compare every recorded quantity.

    After each choice the recorded token is fed, even if ours differs, so that one deviation does
    not hide later ones. If every choice agrees, this is the same as a free run.

    Args:
        checkpoint: the model of the trace.
        trace: the recorded run.
        tolerance: largest difference of logits, keys, values and vision tokens that still agrees.
        on_round: called after each round.

    Raises:
        TraceError: the trace belongs to another checkpoint, or needs something that the engine does
            not support.
    """
    return _Replayer(checkpoint, trace, tolerance).run(on_round)


class _Replayer:
    """The state of one replay: the engine, and for each cache slot the number of its token."""

    def __init__(self, checkpoint: Checkpoint, trace: Trace, tolerance: float) -> None:
        _check_fits(checkpoint, trace)
        self._trace, self._settings, self._pictures = trace, trace.settings, checkpoint.pictures
        self._tower = TorchVisionTower(checkpoint.model.model.visual, checkpoint.pictures)
        vocabulary = checkpoint.tokenizer.get_vocab()
        self._stop = {vocabulary[token] for token in STREAMING_VLM.stop if token in vocabulary}
        self._writer = TurnWriter(
            STREAMING_VLM,
            lambda text: _encode(checkpoint, text),
            checkpoint.model.config.video_token_id,
        )
        # Large enough for all tokens of the run, so that only the policy evicts tokens.
        capacity = len(trace.arrays["stream_ids"]) + self._settings.max_new_tokens
        self._forward = CachedForward(checkpoint.model, capacity)
        settings = self._settings
        self._policy = SlidingPolicy(
            settings.window_size,
            settings.text_round,
            settings.text_sink,
            settings.text_sliding_window,
            capacity,
            compatible=True,
        )
        self._layers = checkpoint.model.config.text_config.num_hidden_layers
        self._penalty = (
            RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)
            if settings.repetition_penalty != 1.0
            else None
        )
        self._numbers = np.zeros(capacity, dtype=np.int64)
        self._fed: list[int] = []
        self._generated = 0
        self._pending: list[Segment] = []
        self._tolerance = tolerance
        self._compared: dict[str, Comparison] = {}

    @torch.inference_mode()
    def run(self, on_round: Callable[[], object] | None) -> Replay:
        replay = Replay(self._trace.name, self._settings.rounds, [])
        for number in range(self._settings.rounds):
            for stage, seconds in zip(STAGES, self._round(number), strict=True):
                replay.seconds[stage].append(seconds)
            if on_round is not None:
                on_round()
        self._compare_end(self._settings.rounds - 1)
        replay.comparisons = list(self._compared.values())
        return replay

    def _round(self, number: int) -> Sequence[float]:
        """Run one second of the stream; returns the seconds that each stage took."""
        trace, settings, forward = self._trace, self._settings, self._forward
        clock = [time.perf_counter()]
        frames = trace.frames[number * settings.fps : (number + 1) * settings.fps]
        vision = self._tower.encode(frames[None])[0]
        clock.append(time.perf_counter())
        grid = self._pictures.grid(*frames.shape[1:3])
        entering = [
            *self._pending,
            *self._writer.user(
                number, number, number + 1, grid, (settings.query or "") if number == 0 else ""
            ),
        ]
        if number == 0:
            entering = [*self._writer.prefix(settings.previous_text or ""), *entering]
        held = len(forward.segments)
        layout = self._policy.layout(forward.segments, entering, settings.max_new_tokens)
        forward.arrange([piece for piece in layout if piece.index < held])
        clock.append(time.perf_counter())
        kept, kept_tokens = self._numbers[forward.slots], forward.cache.used
        prompt = [piece.segment for piece in layout if piece.index >= held]
        logits = self._feed(prompt, vision)
        clock.append(time.perf_counter())
        input_ids, where = (
            [token for segment in forward.segments for token in segment.token_ids],
            forward.positions,
        )
        rows = self._decode(number, input_ids, logits)
        clock.append(time.perf_counter())

        merge = self._pictures.merge_size
        if trace.vision is not None:
            self._compare(
                "vision tokens",
                number,
                vision.tokens.float().cpu(),
                trace.vision[number],
                self._tolerance,
            )
        self._compare(
            "picture grid",
            number,
            [1, grid[0] * merge, grid[1] * merge],
            trace.arrays["grid_thw"][number],
        )
        self._compare("kept tokens", number, kept, trace.ragged("kept_src", number))
        self._compare(
            "kept per layer",
            number,
            [kept_tokens] * self._layers,
            trace.arrays["kv_len_evicted"][number],
        )
        self._compare(
            "ids fed",
            number,
            [token for segment in prompt for token in segment.token_ids],
            trace.ragged("new_ids", number),
        )
        self._compare("ids in context", number, input_ids, trace.ragged("input_ids", number))
        self._compare("positions at prefill", number, where, trace.ragged("pos_prefill", number))
        self._compare(
            "positions at the end", number, forward.positions, trace.ragged("pos_all", number)
        )
        self._compare(
            "held per layer",
            number,
            [forward.cache.used] * self._layers,
            trace.arrays["kv_len_after"][number],
        )
        self._compare(
            "first logits", number, rows[0], trace.arrays["logits_first"][number], self._tolerance
        )
        if "logits_all" in trace.arrays:
            recorded = trace.arrays["logits_all"][self._generated : self._generated + len(rows)]
            self._compare("all logits", number, np.stack(rows), recorded, self._tolerance)
        self._generated += len(rows)
        return [float(seconds) for seconds in np.diff(clock)]

    def _decode(self, number: int, input_ids: list[int], logits: torch.Tensor) -> list[Any]:
        """Choose token by token; leaves the end of the reply pending.

        Returns:
            The logits (vocabulary,) of every choice.
        """
        said = self._trace.ragged("gen_ids", number).tolist()
        rows = []
        for step, token in enumerate(said):
            rows.append(logits.cpu().numpy())
            self._compare_choice(number, step, [*input_ids, *said[:step]], logits, said)
            if step + 1 < len(said):
                logits = self._feed([Segment(SegmentKind.ACTION, number, (token,))])
        close = self._writer.close(number)
        ended = said[-1] == close[0].token_ids[0]
        self._pending = (
            close if ended else [Segment(SegmentKind.ACTION, number, (said[-1],)), *close]
        )
        return rows

    def _compare_choice(
        self, number: int, step: int, before: list[int], logits: torch.Tensor, said: list[int]
    ) -> None:
        scores = logits[None]
        if self._penalty is not None:
            scores = self._penalty(torch.tensor([before], device=logits.device), scores)
        choice, recorded = int(scores[0].argmax()), said[step]
        comparison = self._compared.setdefault("generated ids", Comparison("generated ids"))
        if (
            choice != recorded
            and float(scores[0, choice] - scores[0, recorded]) <= 2 * self._tolerance
        ):
            comparison.close_calls += 1
            choice = recorded
        comparison.add(number, [choice], [recorded])
        # A reply ends only with a stop token or at the limit.
        ends = choice in self._stop or step + 1 == self._settings.max_new_tokens
        self._compare("ends of replies", number, [ends], [step + 1 == len(said)])

    def _compare_end(self, number: int) -> None:
        arrays = self._trace.arrays
        self._compare("every id fed", number, self._fed, arrays["stream_ids"])
        self._compare(
            "kept at the end", number, self._numbers[self._forward.slots], arrays["final_kept_src"]
        )
        keys, values = self._forward.stored()
        for quantity, name, ours in (
            ("un-rotated keys", "final_k_unrotated", keys),
            ("values", "final_v", values),
        ):
            if name in arrays:
                self._compare(quantity, number, ours.float().cpu(), arrays[name], self._tolerance)

    def _feed(
        self, segments: Sequence[Segment], vision: VisionTokens | None = None
    ) -> torch.Tensor:
        logits = self._forward.feed(segments, vision)
        ids = [token for segment in segments for token in segment.token_ids]
        self._numbers[self._forward.slots[-len(ids) :]] = np.arange(
            len(self._fed), len(self._fed) + len(ids)
        )
        self._fed += ids
        return logits

    def _compare(
        self,
        quantity: str,
        number: int,
        ours: ArrayLike,
        recorded: ArrayLike,
        tolerance: float = 0.0,
    ) -> None:
        self._compared.setdefault(quantity, Comparison(quantity, tolerance)).add(
            number, ours, recorded
        )


def _encode(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    return tuple(checkpoint.tokenizer.encode(text, add_special_tokens=False)) if text else ()


def _check_fits(checkpoint: Checkpoint, trace: Trace) -> None:
    for text, token in trace.settings.special_ids.items():
        ids = _encode(checkpoint, text)
        if ids != (token,):
            raise TraceError(
                f"{trace.name}: {text!r} is token {token} in the trace but {list(ids)} in"
                f" {checkpoint.model_id}; give the checkpoint of the trace"
            )
    pictures = checkpoint.pictures
    if trace.settings.fps != pictures.temporal_patch_size:
        raise TraceError(
            f"{trace.name}: has {trace.settings.fps} frames a round, but a temporal patch has"
            f" {pictures.temporal_patch_size}; record it with that many frames a round"
        )
    unit = pictures.patch_size * pictures.merge_size
    height, width = trace.frames.shape[1:3]
    if height % unit or width % unit:
        raise TraceError(
            f"{trace.name}: frames of {width} x {height} pixels are not whole vision tokens of"
            f" {unit} pixels; record it with sizes that are multiples of {unit}"
        )
    vocabulary = checkpoint.model.config.text_config.vocab_size
    if trace.arrays["logits_first"].shape[1] != vocabulary:
        raise TraceError(
            f"{trace.name}: has logits over {trace.arrays['logits_first'].shape[1]} tokens, but"
            f" {checkpoint.model_id} has {vocabulary}; give the checkpoint of the trace"
        )
