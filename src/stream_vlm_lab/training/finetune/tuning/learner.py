"""The model in fine-tuning: which parts are trained, and logits for the target tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.types import StreamError
from stream_vlm.vision.tower import TorchVisionTower, VisionTokens
from stream_vlm_lab.training.finetune.tuning.batch import Batch

PARTS = ("lora", "language", "connector", "vision")
"""Parts that can be trained.

LoRA adapters in the language part, the whole language part with its output head, the connector
between vision tower and language part, and the vision tower.
"""

LORA_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"
PICTURES_AT_ONCE = 16
"""Pictures in one pass of the vision tower; this limits the memory for long samples."""


class StreamLearner(nn.Module):
    """A checkpoint's model that is trained on whole sequences with teacher forcing.

    Args:
        checkpoint: the loaded checkpoint; its model is changed in place.
        parts: which of `PARTS` are trained.
        rank: rank of the LoRA adapters.
        saves_memory: use gradient checkpointing in the language part.
        new_tokens: ids of new tokens; with adapters, their rows in the embeddings and the output
            head are trained too.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        parts: Sequence[str],
        rank: int,
        *,
        saves_memory: bool,
        new_tokens: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.model: Any = checkpoint.model
        self._tower = TorchVisionTower(self.model.model.visual, checkpoint.pictures)
        # The slot cache is for growing streams; training attends to whole sequences.
        self.model.model.language_model.set_attn_implementation("sdpa")
        self._adapted = _with_adapters(self.model, rank, new_tokens) if "lora" in parts else None
        for part in _modules(self.model, parts):
            part.requires_grad_(True)
        for parameter in self.trainable.values():
            parameter.data = parameter.data.float()
        if saves_memory:
            self.model.model.language_model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (targets, vocabulary) in float32, in the order of `batch.chosen`."""
        language_model = self.model.model.language_model
        embeddings = language_model.embed_tokens(batch.ids)
        vision = VisionTokens.joined(
            [tokens for pictures in batch.pictures for tokens in self._encode(pictures)]
        )
        is_picture = batch.ids == self.model.config.image_token_id
        embeddings = embeddings.masked_scatter(
            is_picture.unsqueeze(-1), vision.tokens.to(embeddings.dtype)
        )
        deepstack = (
            {"visual_pos_masks": is_picture, "deepstack_visual_embeds": list(vision.deepstack)}
            if vision.deepstack
            else {}
        )
        seen = {
            "inputs_embeds": embeddings,
            "attention_mask": batch.mask,
            "position_ids": batch.positions,
        }
        hidden = language_model(**seen, use_cache=False, **deepstack).last_hidden_state
        logits: torch.Tensor = self.model.lm_head(hidden[batch.chosen]).float()
        return logits

    def merged(self) -> Any:
        """Return the model with its adapters merged; the learner cannot be used afterwards."""
        return self._adapted.merge_and_unload() if self._adapted is not None else self.model

    def _encode(self, pictures: Any) -> list[VisionTokens]:
        parts = [
            pictures[begin : begin + PICTURES_AT_ONCE]
            for begin in range(0, len(pictures), PICTURES_AT_ONCE)
        ]
        return [tokens for part in parts for tokens in self._tower.encode(part)]


def _modules(model: Any, parts: Sequence[str]) -> list[nn.Module]:
    """The modules that `parts` name, without adapters.

    Raises:
        StreamError: adapters and the weights under them are both asked for.
    """
    if "lora" in parts and "language" in parts:
        raise StreamError(
            "--train lora and --train language cannot be combined: both train the language part;"
            " choose one"
        )
    visual = model.model.visual
    connector = [
        visual.merger,
        *([visual.deepstack_merger_list] if hasattr(visual, "deepstack_merger_list") else []),
    ]
    known = {
        "lora": [],
        "language": [model.model.language_model, model.lm_head],
        "connector": connector,
        "vision": [visual],
    }
    return [module for part in parts for module in known[part]]


def _with_adapters(model: Any, rank: int, new_tokens: Sequence[int]) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise StreamError(
            f"--train lora needs peft: pip install peft ({error}); or choose --train language or"
            " connector"
        ) from error
    is_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    rows = (
        {
            name: list(new_tokens)
            for name in (["embed_tokens"] if is_tied else ["embed_tokens", "lm_head"])
        }
        if new_tokens
        else None
    )
    return get_peft_model(
        model,
        LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, trainable_token_indices=rows
        ),
    )
