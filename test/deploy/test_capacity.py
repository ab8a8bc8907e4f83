"""Streams of a GPU: sizes against real models and servers, times against known rooflines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from capacity import (
    GPUS,
    REREAD_SHARE,
    Gpu,
    Load,
    ModelSize,
    capacity,
    main,
    model_size,
    token_flops,
    vision_flops,
)
from model_fixtures import write_checkpoint
from transformers import AutoModelForImageTextToText

from stream_vlm.backbone.remote.conversation import KEPT_SHARE

VISION_2_5 = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
ROPE_2_5 = {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
CONFIGS: dict[str, dict[str, Any]] = {
    # As published: the values of the language model stand at the top.
    "Qwen2.5-VL-3B": {
        "model_type": "qwen2_5_vl",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "vision_config": VISION_2_5 | {"out_hidden_size": 2048},
        **ROPE_2_5,
    },
    "Qwen2.5-VL-7B": {
        "model_type": "qwen2_5_vl",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
        "vision_config": VISION_2_5 | {"out_hidden_size": 3584},
        **ROPE_2_5,
    },
    "Qwen3-VL-8B": {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
            "rope_theta": 5e6,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "patch_size": 16,
            "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
            "num_position_embeddings": 2304,
        },
    },
}

A_MODEL = ModelSize(
    total=8_000_000_000,
    vision=700_000_000,
    decoding=7_000_000_000,
    computing=6_500_000_000,
    attention=100_000,
    kv_numbers=((1024, 0),) * 28,
    vision_attention=40_000,
    merged=4,
    patch_numbers=1176,
)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSize]:
    found = {}
    for name, config in CONFIGS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_text(json.dumps(config))
        found[name] = model_size(folder)
    return found


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("Qwen2.5-VL-3B", 6.17), ("Qwen2.5-VL-7B", 14.14), ("Qwen3-VL-8B", 15.14)],
)
def test_a_written_token_reads_the_weights_that_are_published(
    sizes: dict[str, ModelSize], name: str, gigabytes: float
) -> None:
    assert sizes[name].decoding * 2 / 1e9 == pytest.approx(gigabytes, abs=0.01)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("Qwen2.5-VL-3B", 36 * 2 * 2 * 128),
        ("Qwen2.5-VL-7B", 28 * 2 * 4 * 128),
        ("Qwen3-VL-8B", 36 * 2 * 8 * 128),
    ],
)
def test_keys_and_values_of_a_token_are_counted_over_all_layers(
    sizes: dict[str, ModelSize], name: str, numbers: int
) -> None:
    assert sizes[name].kv_bytes(1, 2.0) == 2 * numbers


def test_all_parameters_of_a_real_checkpoint_are_counted(tmp_path: Path) -> None:
    size = model_size(write_checkpoint(tmp_path / "model"))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert size.total == sum(parameter.numel() for parameter in model.parameters())
    assert size.vision == sum(one.numel() for one in model.model.visual.parameters())
    assert model_size(tmp_path / "model" / "config.json") == size


def test_the_cache_of_a_real_model_has_as_many_bytes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        out = model(input_ids=torch.zeros((1, 7), dtype=torch.long), use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers)
    assert model_size(folder).kv_bytes(7, 4.0) == held


@pytest.mark.parametrize(
    ("gpu", "seeing_ms", "reading_ms"), [("h100", 2.7, 2.9), ("agx-orin", 63.0, 67.0)]
)
def test_a_picture_of_448_pixels_takes_the_time_of_the_roofline(
    sizes: dict[str, ModelSize], gpu: str, seeing_ms: float, reading_ms: float
) -> None:
    """The rooflines leave the attention out: 256 tokens a picture, half of the peak."""
    size = replace(sizes["Qwen2.5-VL-3B"], attention=0, vision_attention=0)
    flops_ms = GPUS[gpu].tflops * 1e9 / 2
    assert vision_flops(size, 256) / flops_ms == pytest.approx(seeing_ms, rel=0.06)
    assert 256 * token_flops(size, 0) / flops_ms == pytest.approx(reading_ms, rel=0.06)


def test_a_sliding_layer_stores_no_more_than_its_window() -> None:
    size = replace(A_MODEL, kv_numbers=((1000, 0), (1000, 512)))
    assert size.kv_bytes(4096, 2.0) == 2 * 1000 * (4096 + 512)


def test_streams_are_limited_by_memory_where_contexts_are_long() -> None:
    load = Load(context=100_000, vision_tokens=64, rate_hz=0.1)
    found = capacity(A_MODEL, GPUS["h100"], load)
    free = 80e9 * 0.9 - 16e9 - 4e9
    assert found.by_memory == int(free / (100_000 * 28 * 1024 * 2))
    assert found.streams == found.by_memory < found.by_time


def test_streams_are_limited_by_time_where_ticks_are_many() -> None:
    found = capacity(A_MODEL, GPUS["h100"], Load(context=4096, vision_tokens=256, rate_hz=4.0))
    assert found.streams == found.by_time < found.by_memory


def test_smaller_numbers_hold_more_streams() -> None:
    load = Load(context=16384, vision_tokens=64)
    usual = capacity(A_MODEL, GPUS["h100"], load)
    assert capacity(A_MODEL, GPUS["h100"], load, kv_bytes=1.0).by_memory == pytest.approx(
        2 * usual.by_memory, abs=1
    )
    assert capacity(A_MODEL, GPUS["h100"], load, weight_bytes=0.55).by_memory > usual.by_memory


def test_more_instructions_pictures_or_ticks_hold_fewer_streams() -> None:
    usual = Load(context=8192, vision_tokens=64)
    streams = capacity(A_MODEL, GPUS["h100"], usual).by_time
    for heavier in (
        replace(usual, instructions=6),
        replace(usual, vision_tokens=256),
        replace(usual, rate_hz=2.0),
        replace(usual, context=65536),
        replace(usual, speaking=0.5),
    ):
        assert capacity(A_MODEL, GPUS["h100"], heavier).by_time < streams


def test_a_model_that_is_too_large_holds_no_stream() -> None:
    small = Gpu(memory_gb=16, bandwidth_gbs=500, tflops=50)
    assert capacity(A_MODEL, small, Load(context=4096, vision_tokens=64)).streams == 0


def test_the_share_that_is_read_again_is_what_the_node_keeps() -> None:
    assert REREAD_SHARE == KEPT_SHARE


def test_the_command_prints_a_row_for_each_context_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "model")
    arguments = ["--model", str(folder), "--gpu", "h100", "--gpu-gb", "20"]
    assert main([*arguments, "--context", "2048", "4096", "--vision-tokens", "64"]) == 0
    printed = capsys.readouterr().out
    assert "GPU: 20 GB, 3350 GB/s" in printed
    assert [line.split("|")[1].strip() for line in printed.splitlines()[-2:]] == ["2,048", "4,096"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu-gb", "80"], "--bandwidth, --tflops is missing"),
        (["--gpu", "h100", "--rate-hz", "0"], "--rate-hz is 0.0; give more than 0"),
        (["--gpu", "h100", "--context", "0"], "--context is 0; give more than 0"),
        (["--gpu", "h100", "--instructions", "-1"], "--instructions is -1"),
        (["--gpu", "h100"], "has no config.json; give the folder of a checkpoint"),
    ],
)
def test_what_cannot_be_computed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["--model", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_config_that_is_no_image_text_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert main(["--model", str(tmp_path), "--gpu", "h100"]) == 2
    assert "transformers cannot build the model" in capsys.readouterr().err
