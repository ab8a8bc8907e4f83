"""Texts that a chat model writes beside its streams, a slice of work at a time, in a cache of their
own on the same weights.
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
"""Tokens of a prompt that are read at once: on a GPU about as long as one that is written, for
which all weights are read as well.
"""

LEAST_READ = 64
"""Tokens of lines below which a writer is of no use."""

THOUGHT = "<think>"
"""What the prompts of models end with that are made to think aloud before they answer."""


class ChatTextWriter:
    """Puts a task and lines to a model in the words of its tokenizer's chat template.

    Raises:
        CheckpointError: the tokenizer has no template, or one that leaves out what it is given or
            has the model think aloud; or the model tells too few positions apart.
    """

    def __init__(self, parts: EngineParts, task: str, most_read: int, most_written: int) -> None:
        self._parts, self._task, self._longest = parts, task, most_written
        tokenizer = parts.checkpoint.tokenizer
        if not tokenizer.chat_template:
            raise CheckpointError(
                f"{parts.model_id} has no chat template, so it cannot be told what to write; set"
                " model.directory to an instruction-tuned checkpoint with chat_template.jinja"
            )
        self._system_role = True
        written = self._try_layouts()
        if written.rstrip().endswith(THOUGHT):
            raise CheckpointError(
                f"{parts.model_id} thinks aloud before it answers, which takes too long; take its"
                " instruction-tuned sibling"
            )
        trained = parts.max_positions
        self._room = min(
            most_read, trained - most_written - len(parts.encode_text(self._prompt("")))
        )
        if self._room < LEAST_READ:
            raise CheckpointError(
                f"{parts.model_id} tells {trained} positions apart, of which {max(self._room, 0)}"
                " are left for what happened; lower memory.summary_chars"
            )
        eos = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
        self._stop = parts.tokens.stop | eos
        rows = parts.checkpoint.model.config.text_config.vocab_size
        # Control tokens, and rows that are there only to fill the matrix up, are no words.
        no_words = {*tokenizer.get_added_vocab().values(), *range(len(tokenizer), rows)}
        self._never = torch.tensor(
            sorted(token for token in no_words - self._stop if token < rows), dtype=torch.long
        )

    def begin(self, lines: Sequence[str]) -> ChatWriting:
        """A text about `lines`: the newest that fit, and the end of the newest where not even that
        does.
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
        """Settle on a layout in which the template leaves nothing out: many know no system role,
        and say so with an error of their own.
        """
        probe, reasons = "words of the user", []
        for self._system_role in (True, False):
            try:
                written = self._prompt(probe)
            except Exception as error:  # a template is a foreign program
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            if self._task in written and probe in written:
                return written
            reasons.append("it leaves out what it is given")
        raise CheckpointError(
            f"{self._parts.model_id}: its chat template cannot write an instruction and lines"
            f" ({reasons[-1]}); take another checkpoint"
        )

    def _prompt(self, text: str) -> str:
        """The chat up to where the model's reply begins."""
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
    """One text: its prompt is read a slice at a time, then it is written a token at a time, always
    the likeliest.

    Its cache lives as long as it does; the streams' caches and samplers are not touched.

    Attributes:
        text: what is written of it, by whole words.
        forward: the model with the cache of this text.
        unread: the token ids that the model has not read yet.
        is_over: True when the model ended it, or when it is as long as it may be.
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
        """Read the next slice of the prompt, or write the next token; returns when the device has
        done it.

        Raises:
            ModelFault: the model's numbers are not finite, or memory ran out.
        """
        taken, self.unread = self.unread[:SLICE_TOKENS], self.unread[SLICE_TOKENS:]
        try:
            logits = self.forward.feed([Segment(SegmentKind.TEXT, -1, taken)])
            # Asking for a number waits for the device: nothing of this slice is left to be done
            # when a look comes.
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
