"""Writes the newest pictures and a question as a chat, with the chat template of a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.foreign.chat_pieces import Message, write_chat
from stream_vlm.backbone.foreign.processor import whole_picture_options
from stream_vlm.backbone.tokens.detokenizer import unknown_words, without_control
from stream_vlm.unicode_text import check_text


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the text before it.

    Attributes:
        label: the text before the picture.
        image: uint8 RGB, (H, W, 3).
    """

    label: str
    image: NDArray[np.uint8]


def _with_system_role(system: str, labels: Sequence[str], before: str, after: str) -> list[Message]:
    return [
        {"role": "system", "content": [_text(system)]},
        *_one_message("", labels, before, after),
    ]


def _one_message(system: str, labels: Sequence[str], before: str, after: str) -> list[Message]:
    shown = [part for label in labels for part in (_text(label), {"type": "image"})]
    parts = (
        [_text(system)] * bool(system)
        + [_text(before)] * bool(before)
        + shown
        + [_text(after)] * bool(after)
    )
    return [{"role": "user", "content": parts}]


def _pictures_first(system: str, labels: Sequence[str], before: str, after: str) -> list[Message]:
    words = "\n".join(text.strip() for text in (system, before, *labels, after) if text)
    return [{"role": "user", "content": [*({"type": "image"} for _ in labels), _text(words)]}]


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


LAYOUTS = (_with_system_role, _one_message, _pictures_first)
"""Layouts of the same chat.

Many templates have no system role, and some take only one text, after the pictures.
"""


class ChatWriter:
    """Writes chats with the chat template of `processor`.

    It uses the first layout of which the template writes every part.

    Args:
        processor: the processor of the checkpoint.
        system: the instruction at the beginning of every chat.
        name: name of the checkpoint, for messages.

    Raises:
        CheckpointError: the processor has no chat template, or the template leaves out a part of
            the chat in every layout.
    """

    def __init__(self, processor: Any, system: str, name: str) -> None:
        self._processor, self._system = processor, system
        self._options = whole_picture_options(processor)
        if not getattr(processor, "chat_template", None):
            raise CheckpointError(
                f"{name}: its processor has no chat template, so the format of its prompt is"
                " unknown; use an instruction-tuned checkpoint, or copy chat_template.jinja from"
                " the checkpoint's origin"
            )
        probe = (["label one", "label two"], "words before", "words after")
        reasons = []
        for layout in LAYOUTS:
            self._layout = layout
            try:
                written = self.write(*probe)
            except Exception as error:
                # A template can raise anything; many without a system role raise their own error.
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            left_out = [text for text in (system, *probe[0], *probe[1:]) if text not in written]
            if not left_out:
                return
            reasons.append(f"it leaves out {left_out[0][:40]!r}")
        raise CheckpointError(
            f"{name}: its chat template cannot express an instruction, pictures and a question"
            f" ({reasons[-1]}); use another checkpoint"
        )

    def plain(self, text: str) -> str:
        """`text` of a user or of the model without control tokens and picture placeholders.

        Raises:
            TextRefused: `text` has half a character, which no tokenizer takes.
        """
        check_text(text, "the text")
        picture = getattr(self._processor, "image_token", None)
        return without_control(
            self._processor.tokenizer,
            text.replace(picture, " ") if isinstance(picture, str) else text,
        )

    def tokens(self, text: str) -> int:
        """The number of tokens of `text`."""
        return len(self._processor.tokenizer.encode(text, add_special_tokens=False))

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that the tokenizer has no token for."""
        return unknown_words(self._processor.tokenizer, text)

    def write(self, labels: Sequence[str], before: str, after: str) -> str:
        """The text of the chat, up to where the model's reply begins.

        Args:
            labels: the text before each picture, oldest first.
            before: text before the pictures; may be empty.
            after: text after the pictures; may be empty.
        """
        messages = self._layout(self._system, labels, before, after)
        return write_chat(self._processor, messages, reply=True)

    def inputs(self, shown: Sequence[LabelledPicture], before: str, after: str) -> Any:
        """The inputs of the model for a chat.

        Args:
            shown: the pictures, oldest first.
            before: text before the pictures; may be empty.
            after: text after the pictures; may be empty.

        Returns:
            A mapping of tensors with one row.

        Raises:
            Exception: whatever the processor raises for pictures that it cannot process.
        """
        text = self.write([one.label for one in shown], before, after)
        return self.piece(text, [one.image for one in shown], first=True)

    def piece(self, text: str, images: Sequence[NDArray[np.uint8]], *, first: bool) -> Any:
        """The inputs of the model for a part of a chat.

        Args:
            text: the text, with one placeholder for each picture.
            images: the pictures, uint8 RGB, (H, W, 3), oldest first.
            first: whether the chat begins with this part.

        Returns:
            A mapping of tensors with one row.

        Raises:
            Exception: whatever the processor raises for pictures that it cannot process.
        """
        first_token = getattr(self._processor.tokenizer, "bos_token", None)
        inputs = self._processor(
            text=[text],
            images=[[Image.fromarray(image) for image in images]],
            return_tensors="pt",
            # Most templates already write the first token.
            add_special_tokens=first and not (first_token and text.startswith(first_token)),
            **self._options,
        )
        # PaliGemma's processor adds what only a training needs.
        inputs.pop("labels", None)
        return inputs

    def ids(self, text: str) -> list[int]:
        """Token ids of a later part of a chat without pictures."""
        return list(self._processor.tokenizer.encode(text, add_special_tokens=False))
