"""One instruction and a text in the chat template of a tokenizer, and the tokens of the reply."""

from __future__ import annotations

from typing import Any

import torch

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.engine_parts import EngineParts

THOUGHT = "<think>"
"""The end of a prompt of models that write their reasoning before the answer."""


class ChatTemplate:
    """Writes chats of one instruction and one message of the user.

    Args:
        parts: what all streams of the checkpoint share.
        task: the instruction.

    Attributes:
        stop: token ids that end a reply.
        never: ids of tokens that are no words, int64, (tokens,): control tokens and padding rows.

    Raises:
        CheckpointError: the tokenizer has no usable chat template, or the model writes its
            reasoning first.
    """

    def __init__(self, parts: EngineParts, task: str) -> None:
        self._parts, self._task = parts, task
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
        eos = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
        self.stop: frozenset[int] = parts.tokens.stop | eos
        rows = parts.checkpoint.model.config.text_config.vocab_size
        no_words = {*tokenizer.get_added_vocab().values(), *range(len(tokenizer), rows)}
        self.never = torch.tensor(
            sorted(token for token in no_words - self.stop if token < rows), dtype=torch.long
        )

    def prompt(self, text: str) -> str:
        """The chat with `text`, up to where the model's reply begins."""
        system, user = {"role": "system", "content": self._task}, {"role": "user", "content": text}
        messages: list[dict[str, Any]] = (
            [system, user]
            if self._system_role
            else [{"role": "user", "content": f"{self._task}\n\n{text}"}]
        )
        return self._filled(messages)

    def user_alone(self, text: str) -> str:
        """The chat with `text` of the user and nothing else, up to where the reply begins."""
        return self._filled([{"role": "user", "content": text}])

    def _filled(self, messages: list[dict[str, Any]]) -> str:
        return str(
            self._parts.checkpoint.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    def _try_layouts(self) -> str:
        """Choose a layout in which the template contains the instruction and the lines.

        Many templates have no system role and raise an error of their own.

        Returns:
            The prompt of a test message in this layout.
        """
        probe, reasons = "words of the user", []
        for self._system_role in (True, False):
            try:
                written = self.prompt(probe)
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
