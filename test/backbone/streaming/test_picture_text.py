"""Texts about pictures: the prompt, its slices, and the same words as without slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chat_fixtures import FORGETFUL_CHATML, SUMMARY, load, write_chat_checkpoint
from chat_fixtures import write_speaking_checkpoint as write_speaking
from model_fixtures import FAMILIES, random_frame

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.errors import ModelFault
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.streaming import picture_text
from stream_vlm.backbone.streaming.picture_text import PictureWriting
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Frame
from stream_vlm.vision.preprocess import PictureError

TASK = "there was a cup"
LONGEST = 12


@pytest.fixture(scope="module", params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    return load(
        write_chat_checkpoint(tmp_path_factory.mktemp(request.param), request.param, layers=4)
    )


def written(writing: PictureWriting) -> str:
    while not writing.is_over:
        writing.advance()
    return writing.text


def reference(model: StreamingModel, frame: Frame) -> list[str]:
    """The words that the model writes about `frame` where transformers runs it in one piece."""
    weights, tokenizer = model.checkpoint.model, model.checkpoint.tokenizer
    pictures = model.checkpoint.pictures
    resized = pictures.resize(frame.image)
    rows, columns = pictures.grid(*resized.shape[:2])
    still = np.stack([resized] * pictures.temporal_patch_size)[None]
    head, tail = (
        list(model.parts.encode_text(text))
        for text in (
            "<|im_start|>user\n<|vision_start|>",
            f"<|vision_end|>\n{TASK}<|im_end|>\n<|im_start|>assistant\n",
        )
    )
    ids = [*head, *[weights.config.image_token_id] * (rows * columns), *tail]
    length = len(ids)
    control = sorted(set(tokenizer.get_added_vocab().values()) - set(model.parts.tokens.stop))
    weights.model.language_model.set_attn_implementation("sdpa")
    try:
        while len(ids) < length + LONGEST:
            kinds = [[int(token == weights.config.image_token_id) for token in ids]]
            with torch.no_grad():
                logits = (
                    weights(
                        input_ids=torch.tensor([ids]),
                        pixel_values=pictures.patches(still),
                        image_grid_thw=torch.tensor([[1, rows * 2, columns * 2]]),
                        mm_token_type_ids=torch.tensor(kinds),
                    )
                    .logits[0, -1]
                    .float()
                )
            logits[control] = -torch.inf
            token = int(logits.argmax())
            if token in model.parts.tokens.stop:
                return str(tokenizer.decode(ids[length:])).split()
            ids.append(token)
    finally:
        weights.model.language_model.set_attn_implementation("stream_vlm_slots")
    return str(tokenizer.decode(ids[length:])).split()[:-1]


@pytest.mark.parametrize("tokens", [3, 7, 32])
def test_the_text_equals_that_of_the_model_without_slices(
    model: StreamingModel, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture has 25 tokens in 5 rows, so most slices begin and end within a row."""
    monkeypatch.setattr(picture_text, "SLICE_TOKENS", tokens)
    fed: list[int] = []
    handle = model.checkpoint.model.model.language_model.layers[0].register_forward_pre_hook(
        lambda layer, inputs: fed.append(inputs[0].shape[1])
    )
    frame = random_frame(3)
    try:
        text = written(model.picture_writer(TASK, LONGEST).begin(frame))
    finally:
        handle.remove()
    assert text.split() == reference(model, frame)
    assert text
    assert max(fed) == tokens


def test_the_picture_of_the_last_step_is_not_encoded_again(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = random_frame(5)
    writer = model.picture_writer(TASK, LONGEST)
    alone = written(writer.begin(frame))
    model.step([Turn(model.open_stream("front"), frame)])
    monkeypatch.setattr(model.parts.tower, "encode", lambda pictures: pytest.fail("encoded again"))
    assert written(writer.begin(frame)) == alone
    monkeypatch.undo()
    # Another picture of the camera is no picture of that step.
    other = replace(random_frame(6), stamp_ns=frame.stamp_ns + 1)
    assert written(writer.begin(other)).split() == reference(model, other)


def test_a_text_ends_where_the_model_ends_its_turn(tmp_path: Path) -> None:
    model = load(write_speaking(tmp_path))
    assert written(model.picture_writer(TASK, 50).begin(random_frame(0))) == SUMMARY


def test_a_picture_that_cannot_be_processed_is_refused(model: StreamingModel) -> None:
    thin = replace(random_frame(0), image=np.zeros((1, 2000, 3), np.uint8))
    with pytest.raises(PictureError):
        model.picture_writer(TASK, LONGEST).begin(thin)


def test_logits_that_are_not_finite_are_a_fault_of_the_text(tmp_path: Path) -> None:
    model = load(write_speaking(tmp_path))
    model.checkpoint.model.lm_head.weight[:] = float("nan")
    writing = model.picture_writer(TASK, LONGEST).begin(random_frame(0))
    with pytest.raises(ModelFault, match="not finite"):
        written(writing)


def test_a_model_without_a_template_for_instructions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no chat template"):
        load_cached_model(Settings()).picture_writer(TASK, LONGEST)
    forgetful = load(write_chat_checkpoint(tmp_path, template=FORGETFUL_CHATML))
    with pytest.raises(CheckpointError, match="chat template"):
        forgetful.picture_writer(TASK, LONGEST)
