"""Texts that a chat model writes between the steps of its streams, one slice of work at a time.

They use the same weights, with a cache of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from stream_vlm.backbone.checkpoint.errors import ModelFault
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.backbone.streaming.next_chunk_prefill import newest_lines
from stream_vlm.context.segments import Segment, SegmentKind

SLICE_TOKENS = 32
"""Prompt tokens in one slice.

On a GPU this takes about as long as decoding one token, because both read all weights once.
"""

LEAST_READ = 64
"""The fewest tokens of lines with which a writer is useful."""

THOUGHT = "<think>"
"""The end of a prompt of models that write their reasoning before the answer."""


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
        self._parts, self._task, self._longest = parts, task, most_written
        tokenizer = parts.checkpoint.tokenizer
        if not tokenizer.chat_template:
            raise CheckpointError(
                f"{parts.model_id} has no chat template, so it cannot take an instruction; set"
                " model.directory to an instruction-tuned checkpoint with chat_template.jinja"
            )
        self._system_role = True
        written = self._try_layouts()
        if written.rstrip().endswith(THOUGHT):
            raise CheckpointError(
                f"{parts.model_id} writes its reasoning before the answer, which takes too long;"
                " use the instruction-tuned version of this model"
            )
        trained = parts.max_positions
        self._room = min(
            most_read, trained - most_written - len(parts.encode_text(self._prompt("")))
        )
        if self._room < LEAST_READ:
            raise CheckpointError(
                f"{parts.model_id} was trained for {trained} tokens, of which"
                f" {max(self._room, 0)} are left for the lines to summarize; lower"
                " memory.summary_chars"
            )
        eos = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
        self._stop = parts.tokens.stop | eos
        rows = parts.checkpoint.model.config.text_config.vocab_size
        # Control tokens and padding rows of the matrix are not words.
        no_words = {*tokenizer.get_added_vocab().values(), *range(len(tokenizer), rows)}
        self._never = torch.tensor(
            sorted(token for token in no_words - self._stop if token < rows), dtype=torch.long
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
            self._parts.encode_text(self._prompt("\n".join(kept))),
            self._longest,
            self._stop,
            self._never,
        )

    def _ids(self, line: str) -> tuple[int, ...]:
        return self._parts.encode_text(line + "\n")

    def _try_layouts(self) -> str:
        """Choose a layout in which the template contains the instruction and the lines.

        Many templates have no system role and raise an error of their own.

        Returns:
            The prompt of a test message in this layout.
        """
        probe, reasons = "words of the user", []
        for self._system_role in (True, False):
            try:
                written = self._prompt(probe)
            except Exception as error:  # a template can raise anything
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            if self._task in written and probe in written:
                return written
            reasons.append("it leaves out a part of the message")
        raise CheckpointError(
            f"{self._parts.model_id}: its chat template cannot express an instruction and lines"
            f" ({reasons[-1]}); use another checkpoint"
        )

    def _prompt(self, text: str) -> str:
        """The chat with `text`, up to where the model's reply begins."""
        system, user = {"role": "system", "content": self._task}, {"role": "user", "content": text}
        messages: list[dict[str, Any]] = (
            [system, user]
            if self._system_role
            else [{"role": "user", "content": f"{self._task}\n\n{text}"}]
        )
        return str(
            self._parts.checkpoint.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )


class ChatWriting:
    """One text that is being written.

    Its prompt is read in slices, then the most likely tokens are decoded one by one. The text has
    its own cache; the caches and samplers of the streams are not touched.

    Attributes:
        text: the whole words so far.
        forward: the context of this text in its own cache.
        unread: token ids that are not fed yet.
        is_over: whether the model has ended the text or it has reached its longest length.
    """

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
        taken, self.unread = self.unread[:SLICE_TOKENS], self.unread[SLICE_TOKENS:]
        try:
            logits = self.forward.feed([Segment(SegmentKind.TEXT, -1, taken)])
            # Reading a number waits for the device, so no work of this slice delays the next step.
            is_finite = bool(torch.isfinite(logits).all())
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelFault(
                f"{self._model_id}: the device has no memory for a text beside the streams; lower"
                " memory.summary_tokens"
            ) from error
        if not is_finite:
            raise ModelFault(
                f"{self._model_id}: the model's logits are not finite while it writes (try"
                " model.dtype float32)"
            )
        if not self.unread:
            self._choose(logits)

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
