"""Texts that a chat model writes between the steps of its streams, one slice of work at a time.

They use the same weights, with a cache of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stream_vlm.backbone.checkpoint.errors import ModelFault
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.backbone.streaming.chat_template import ChatTemplate
from stream_vlm.backbone.streaming.next_chunk_prefill import newest_lines
from stream_vlm.context.segments import Segment, SegmentKind

SLICE_TOKENS = 32
"""Prompt tokens in one slice.

On a GPU this takes about as long as decoding one token, because both read all weights once.
"""

LEAST_READ = 64
"""The fewest tokens of lines with which a writer is useful."""


class ChatTextWriter:
    """Writes texts with one instruction, in the chat template of the tokenizer.

    Args:
        parts: what all streams of the checkpoint share.
        task: the instruction.
        most_read: the most tokens of lines that are read for a text.
        most_written: the most tokens of a text.

    Raises:
        CheckpointError: the tokenizer has no usable chat template, the model writes its reasoning
            first, or its context is too short.
    """

    def __init__(self, parts: EngineParts, task: str, most_read: int, most_written: int) -> None:
        self._parts, self._longest = parts, most_written
        self._template = ChatTemplate(parts, task)
        trained = parts.max_positions
        empty = len(parts.encode_text(self._template.prompt("")))
        self._room = min(most_read, trained - most_written - empty)
        if self._room < LEAST_READ:
            raise CheckpointError(
                f"{parts.model_id} was trained for {trained} tokens, of which"
                f" {max(self._room, 0)} are left for the lines to summarize; lower"
                " memory.summary_chars"
            )

    def begin(self, lines: Sequence[str]) -> ChatWriting:
        """Begin a text about `lines`.

        It reads the newest lines that fit. If not even the newest line fits, it reads the end of
        that line.
        """
        kept = newest_lines([self._parts.plain(line) for line in lines], self._room, self._ids)
        if lines and not kept:
            cut = self._ids(self._parts.plain(lines[-1]))[-self._room :]
            kept = [str(self._parts.checkpoint.tokenizer.decode(list(cut))).strip()]
        return ChatWriting(
            self._parts,
            self._parts.encode_text(self._template.prompt("\n".join(kept))),
            self._longest,
            self._template.stop,
            self._template.never,
        )

    def _ids(self, line: str) -> tuple[int, ...]:
        return self._parts.encode_text(line + "\n")


class ChatWriting:
    """One text that is being written.

    Its prompt is read in slices, then the most likely tokens are decoded one by one. The text has
    its own cache; the caches and samplers of the streams are not touched.

    Attributes:
        text: the whole words so far.
        forward: the context of this text in its own cache.
        unread: token ids that are not fed yet.
        is_over: whether the model has ended the text or it has reached its longest length.
        shorter: what to lower if memory runs out.
    """

    shorter = "memory.summary_tokens"

    def __init__(
        self,
        parts: EngineParts,
        prompt: tuple[int, ...],
        longest: int,
        stop: frozenset[int],
        never: torch.Tensor,
    ) -> None:
        self.text = ""
        self.is_over = False
        self._model_id = parts.model_id
        self.forward = CachedForward(parts.checkpoint.model, len(prompt) + longest)
        self._words = parts.words()
        self.unread, self._longest, self._stop, self._never = prompt, longest, stop, never
        self._written = 0

    @torch.inference_mode()
    def advance(self) -> None:
        """Read the next slice of the prompt or decode the next token.

        It returns when the device has finished.

        Raises:
            ModelFault: the model's logits are not finite, or memory ran out.
        """
        try:
            logits = self._feed_slice()
            if logits is None:
                return
            # Reading a number waits for the device, so no work of this slice delays the next step.
            is_finite = bool(torch.isfinite(logits).all())
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelFault(
                f"{self._model_id}: the device has no memory for a text beside the streams; lower"
                f" {self.shorter}"
            ) from error
        if not is_finite:
            raise ModelFault(
                f"{self._model_id}: the model's logits are not finite while it writes (try"
                " model.dtype float32)"
            )
        if not self.unread:
            self._choose(logits)

    def _feed_slice(self) -> torch.Tensor | None:
        """Do one slice; return the logits after it, or None if it fed no token."""
        taken, self.unread = self.unread[:SLICE_TOKENS], self.unread[SLICE_TOKENS:]
        return self.forward.feed([Segment(SegmentKind.TEXT, -1, taken)])

    def _choose(self, logits: torch.Tensor) -> None:
        logits = logits.index_fill(0, self._never.to(logits.device), -torch.inf)
        token = int(logits.argmax())
        if token in self._stop:
            self._end(complete=True)
            return
        self._written += 1
        self.unread = (token,)
        self.text = self._words.push(token)
        if self._written == self._longest:
            self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        self.text = self._words.finish(complete)
        self.is_over = True
