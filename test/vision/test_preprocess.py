"""Patches and vision tokens equal those of transformers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import small_qwen3_config
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from stream_vlm.vision.preprocess import PictureError, PictureFormat
from stream_vlm.vision.tower import TorchVisionTower
from stream_vlm_lab.training.shipped_model.architecture import (
    small_config,
    word_tokenizer,
)
from stream_vlm_lab.training.shipped_model.picture_format import PICTURES

QWEN = PictureFormat(14, 2, 2, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))


def small_tower(full_attention: bool) -> Any:
    config: Any = small_config(word_tokenizer(["word"]))
    config.vision_config.fullatt_block_indexes = [0, 1, 2, 3] if full_attention else [3]
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).model.visual.eval()


@pytest.mark.parametrize("full_attention", [True, False], ids=["one batch", "windows"])
@pytest.mark.parametrize("size", [(128, 192), (96, 64)])
@torch.inference_mode()
def test_tokens_equal_those_of_the_unmodified_tower(
    full_attention: bool, size: tuple[int, int]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 2, *size, 3), dtype=np.uint8)
    tower = small_tower(full_attention)
    grid = torch.tensor([[1, size[0] // 16, size[1] // 16]] * 3)
    expected = tower(PICTURES.patches(pictures), grid_thw=grid).pooler_output
    tokens = TorchVisionTower(tower, PICTURES).encode(pictures)
    assert [len(picture) for picture in tokens] == [size[0] * size[1] // 32**2] * 3
    assert torch.allclose(torch.cat([picture.tokens for picture in tokens]), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(128, 192), (96, 64), (512, 384)])
@torch.inference_mode()
def test_tokens_and_deepstack_levels_equal_those_of_the_unmodified_qwen3_tower(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    tower = Qwen3VLForConditionalGeneration(
        small_qwen3_config(word_tokenizer(["word"]))
    ).model.visual.eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 2, *size, 3), dtype=np.uint8)
    grid = torch.tensor([[1, size[0] // 16, size[1] // 16]] * 2)
    expected = tower(PICTURES.patches(pictures), grid_thw=grid)
    encoded = TorchVisionTower(tower, PICTURES).encode(pictures)
    assert torch.allclose(
        torch.cat([picture.tokens for picture in encoded]), expected.pooler_output, atol=1e-5
    )
    assert len(expected.deepstack_features) == 2
    for level, features in enumerate(expected.deepstack_features):
        assert torch.allclose(
            torch.cat([picture.deepstack[level] for picture in encoded]), features, atol=1e-5
        )


def test_patches_equal_those_of_the_official_processor() -> None:
    from transformers import Qwen2VLImageProcessor

    image = np.random.default_rng(1).integers(0, 256, (84, 140, 3), dtype=np.uint8)
    processor = Qwen2VLImageProcessor(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=list(QWEN.mean),
        image_std=list(QWEN.std),
        do_resize=False,
    )
    official = processor(images=image, return_tensors="pt")
    ours = QWEN.patches(np.stack([image, image])[None])
    assert official["image_grid_thw"].tolist() == [[1, 6, 10]]
    assert torch.allclose(ours, official["pixel_values"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((480, 640), (252, 364), id="a large picture is shrunk into the budget"),
        pytest.param((112, 140), (112, 140), id="a picture within the budget is unchanged"),
        pytest.param((20, 30), (56, 84), id="a tiny picture is enlarged"),
        pytest.param((100, 5000), (28, 2240), id="a panorama keeps at least one row"),
    ],
)
def test_sizes_are_whole_patches_within_the_budget(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    height, width = QWEN.target_size(*size)
    assert height % 28 == 0
    assert width % 28 == 0
    assert height * width <= QWEN.max_pixels
    assert (height, width) == expected


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (4, 4000)])
def test_an_impossible_size_is_refused_and_named(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"{size[1]} x {size[0]} pixels cannot be processed"):
        QWEN.target_size(*size)


def test_a_fixed_size_applies_to_every_picture() -> None:
    assert PICTURES.resize(np.zeros((720, 1280, 3), dtype=np.uint8)).shape == (128, 192, 3)


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "plain"])
@torch.inference_mode()
def test_only_place_marks_make_the_tokens_of_a_uniform_picture_differ(marked: bool) -> None:
    pictures = np.full((1, 2, 128, 192, 3), 90, dtype=np.uint8)
    tokens = (
        TorchVisionTower(small_tower(full_attention=True), replace(PICTURES, place_marks=marked))
        .encode(pictures)[0]
        .tokens
    )
    distances = torch.cdist(tokens, tokens)[~torch.eye(len(tokens), dtype=torch.bool)]
    assert (distances > 1e-3).all() if marked else (distances < 1e-4).all()


def test_place_marks_change_one_pixel_of_a_patch_only() -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (2, 2, 128, 192, 3), dtype=np.uint8)
    plain, marked = (
        replace(PICTURES, place_marks=marked).patches(pictures).view(2, 96, 6, 256)
        for marked in (False, True)
    )
    assert torch.equal(plain[..., 1:], marked[..., 1:])
    assert torch.equal(marked[0, ..., 0], marked[1, ..., 0])
    assert len(torch.unique(marked[0, ..., 0], dim=0)) == 96
