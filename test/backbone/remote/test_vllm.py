"""A real vLLM as the model: its states are those of the same weights in torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_prompts import decoded
from colour_mind import one_step, remote_model, watching
from served_checkpoint import serve_vllm, vllm_python, write_served_checkpoint
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from stream_vlm.backbone.remote.conversation import Conversation
from stream_vlm.backbone.remote.labels import Way
from stream_vlm.backbone.tokens.first_ids import first_ids
from stream_vlm.context.instructions import LABELS, judge_prompt
from stream_vlm.model_protocol import Outcome
from stream_vlm.types import State
from stream_vlm.vision.preprocess import PictureFormat

pytestmark = pytest.mark.skipif(
    not vllm_python(), reason="vLLM is not installed; STREAM_VLM_VLLM_PYTHON can name its Python"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_served_checkpoint(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def url(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_vllm(checkpoint, tmp_path_factory.mktemp("vllm") / "log.txt") as served:
        yield served


def states_in_torch(checkpoint: Path, chat: Conversation, instruction: str) -> dict[State, float]:
    """The probability of each state, from one forward pass over the whole prompt."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint).eval()
    pictures = PictureFormat(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        min_pixels=3136,
        max_pixels=50176,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    images = [decoded(seen.picture.url) for seen in chat.pictures]
    patches, grids = [], []
    for image in images:
        height, width = pictures.target_size(*image.shape[:2])
        assert (height, width) == image.shape[:2], "the picture needs no resizing"
        patches.append(pictures.patches(np.stack([image, image])[None]))
        grids.append((1, height // 14, width // 14))
    text = tokenizer.apply_chat_template(
        chat.messages(judge_prompt(instruction)), tokenize=False, add_generation_prompt=True
    )
    for _, rows, columns in grids:
        text = text.replace("<|image_pad|>", "<|video_pad|>" * (rows * columns // 4), 1)
    ids = torch.tensor([tokenizer.encode(text.replace("<|video_pad|>", "<|image_pad|>"))])
    is_picture = (ids == model.config.image_token_id).long()
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            pixel_values=torch.cat(patches),
            image_grid_thw=torch.tensor(grids),
            mm_token_type_ids=is_picture,
        ).logits[0, -1]
    firsts = first_ids(list(LABELS.values()), tokenizer.encode, None)
    shares = torch.softmax(logits, dim=0)
    sums = [float(shares[list(ids)].sum()) for ids in firsts]
    return {state: share / sum(sums) for state, share in zip(LABELS, sums, strict=True)}


def test_states_equal_those_of_the_same_weights_in_torch(url: str, checkpoint: Path) -> None:
    model = remote_model(url, model__timeout_s=120.0)
    stream = model.open_stream("front")
    for second, colour in enumerate(("grey", "red", "grey", "blue")):
        outcome = one_step(model, stream, colour, second, watching("a door", "people"))
        assert isinstance(outcome, Outcome), outcome
        for name, decision in outcome.judged.items():
            expected = states_in_torch(checkpoint, stream.conversation, name)
            assert decision.probabilities == pytest.approx(expected, abs=1e-4)


def test_vllm_reads_states_by_token_keeps_pictures_and_caches_prefixes(url: str) -> None:
    model = remote_model(url, model__timeout_s=120.0)
    known = model.server.abilities
    assert known.phrasing.states.way is Way.TOKEN_IDS
    assert known.keeps_pictures
    assert known.phrasing.continues
    assert known.max_tokens == 4096
    stream = model.open_stream("front")
    for second in range(12):
        outcome = one_step(model, stream, "grey", second, watching("a door"))
        assert isinstance(outcome, Outcome), outcome
    assert model.figures["pictures sent again"] == 0
    assert float(str(model.figures["cached share of prompt tokens"])) > 0.3


def test_vllm_says_what_it_lost_and_gets_the_pictures_again(url: str) -> None:
    model = remote_model(url, model__timeout_s=120.0)
    stream = model.open_stream("front")
    one_step(model, stream, "grey", 0, watching("a door"))
    # A picture that the server never saw stands for one that it lost.
    one_step(model, stream, "red", 1)
    stream.known |= {seen.picture.name for seen in stream.conversation.pictures}
    outcome = one_step(model, stream, "grey", 2, watching("a door"))
    assert isinstance(outcome, Outcome), outcome
    assert model.figures["pictures sent again"] == 1
