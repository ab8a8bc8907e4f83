"""A checkpoint that cannot be used is refused with its name, the fault and the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_fixtures import FAMILIES, settings_for, step_alone, write_checkpoint
from safetensors.torch import load_file, save_file

from stream_vlm.backbone import load_cached_model, load_model
from stream_vlm.backbone.checkpoint.files import ForeignArchitecture
from stream_vlm.backbone.checkpoint.loader import load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.config.settings import load_settings


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("healthy"))


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop_tensor(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    weights.pop("model.layers.2.mlp.up_proj.weight")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def name_missing_shard(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def same_markers(directory: Path) -> None:
    path = directory / "stream_config.json"
    content = json.loads(path.read_text())
    content["turns"]["standby"] = content["turns"]["silence"]
    path.write_text(json.dumps(content))


def change_weight(directory: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(directory / "model.safetensors")
    name = "model.layers.2.mlp.up_proj.weight"
    save_file(
        weights | {name: change(weights[name])},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )


def change_text_config(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= values
    path.write_text(json.dumps(config))


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing directory", lambda d: shutil.rmtree(d), "no such directory"),
    ("no config", lambda d: (d / "config.json").unlink(), "has no config.json"),
    ("config is not JSON", lambda d: (d / "config.json").write_text("{"), "is not valid JSON"),
    (
        "another architecture",
        lambda d: change_json(d / "config.json", model_type="llama"),
        "architecture 'llama' is not supported",
    ),
    ("no weights", lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    ("truncated weights", lambda d: truncate(d / "model.safetensors"), "is damaged"),
    ("a missing shard", name_missing_shard, "model-00002-of-00002.safetensors is missing"),
    ("a missing tensor", drop_tensor, "1 weights are missing"),
    ("no tokenizer", lambda d: (d / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (
        "no picture format",
        lambda d: (d / "preprocessor_config.json").unlink(),
        "preprocessor_config.json: missing",
    ),
    (
        "picture format lacks a field",
        lambda d: (d / "preprocessor_config.json").write_text("{}"),
        "KeyError",
    ),
    (
        "stream configuration with a wrong type",
        lambda d: change_json(d / "stream_config.json", rate_hz="often"),
        "rate_hz",
    ),
    (
        "weights that are not finite",
        lambda d: change_weight(d, lambda w: w * float("nan")),
        "up_proj.weight holds values that are not finite",
    ),
    (
        "integer weights",
        lambda d: change_weight(d, lambda w: w.to(torch.int8)),
        "is stored as I8, but config.json has no",
    ),
    (
        "weights of another shape",
        lambda d: change_weight(d, lambda w: w[:5].clone()),
        "cannot be loaded",
    ),
    (
        "fewer layers than weights",
        lambda d: change_text_config(d, num_hidden_layers=3, layer_types=["full_attention"] * 3),
        "has no place for",
    ),
    (
        "quantized by a missing library",
        lambda d: change_json(d / "config.json", quantization_config={"quant_method": "awq"}),
        "missing|quant",
    ),
    ("equal state markers", same_markers, "cannot be distinguished"),
]


@pytest.mark.parametrize(
    ("damage", "message"),
    [pytest.param(damage, message, id=name) for name, damage, message in DAMAGE],
)
def test_a_damaged_checkpoint_is_refused_with_the_fault(
    healthy: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(healthy, directory)
    damage(directory)
    with pytest.raises(CheckpointError, match=message):
        load_model(settings_for(directory))


DEEPSTACK: list[tuple[object, str]] = [
    (None, "deepstack_visual_indexes is missing"),
    ([0, 7], "not ascending blocks of a tower of depth 4"),
    ([2, 0], "not ascending blocks"),
    ([0, 1, 2, 3, 3], "not ascending blocks"),
]


@pytest.mark.parametrize(("levels", "message"), DEEPSTACK)
def test_a_qwen3_without_its_deepstack_levels_is_refused(
    tmp_path: Path, levels: object, message: str
) -> None:
    directory = write_checkpoint(tmp_path, family="qwen3_vl")
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["deepstack_visual_indexes"] = levels
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_model(settings_for(directory))


def test_deepstack_levels_that_contradict_the_weights_are_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, family="qwen3_vl")
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["deepstack_visual_indexes"] = [0]
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError,
        match=r"no place for 6 of the weights, such as model\.visual\.deepstack_merger_list\.1",
    ):
        load_model(settings_for(directory))


def test_values_too_large_for_float16_are_refused_with_the_remedy(
    healthy: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(healthy, directory)
    change_weight(directory, lambda weight: weight * 1e8)
    with pytest.raises(
        CheckpointError,
        match=r"not finite in torch\.float16; set model\.dtype to bfloat16 or float32",
    ):
        load_checkpoint(ModelSettings(directory=str(directory), dtype="float16"))


def test_another_architecture_has_an_error_of_its_own(healthy: Path, tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(healthy, directory)
    change_json(directory / "config.json", model_type="llama")
    with pytest.raises(ForeignArchitecture):
        load_checkpoint(ModelSettings(directory=str(directory)))


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_give_the_same_weights_as_one_file(tmp_path: Path, family: str) -> None:
    whole = load_checkpoint(
        ModelSettings(directory=str(write_checkpoint(tmp_path / "whole", family=family)))
    )
    shutil.copytree(tmp_path / "whole", tmp_path / "shards")
    (tmp_path / "shards" / "model.safetensors").unlink()
    whole.model.save_pretrained(tmp_path / "shards", max_shard_size="4MB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    shards = load_checkpoint(ModelSettings(directory=str(tmp_path / "shards")))
    expected = whole.model.state_dict()
    assert all(
        torch.equal(weight, expected[name]) for name, weight in shards.model.state_dict().items()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_with_tied_embeddings_needs_no_lm_head_weights(
    tmp_path: Path, family: str
) -> None:
    directory = write_checkpoint(tmp_path, family=family)
    weights = load_file(directory / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    change_json(directory / "config.json", tie_word_embeddings=True)
    change_text_config(directory, tie_word_embeddings=True)
    model = load_checkpoint(ModelSettings(directory=str(directory))).model
    assert torch.equal(model.lm_head.weight, model.model.language_model.embed_tokens.weight)
    assert torch.equal(
        model.lm_head.weight.bfloat16(),
        next(value for name, value in weights.items() if "embed_tokens" in name),
    )


def test_a_model_that_does_not_fit_is_refused_with_the_remedy(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(
        CheckpointError,
        match=(
            r"does not fit into the GPU's memory; choose a smaller model, "
            r"model\.weights int8 or int4"
        ),
    ):
        load_checkpoint(ModelSettings(directory=str(healthy)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_progress_bar_is_shown_only_on_a_terminal_and_not_for_the_shipped_model(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = write_checkpoint(tmp_path, family=family)
    capfd.readouterr()
    load_checkpoint(ModelSettings(directory=str(directory)))
    assert "Loading weights" not in capfd.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    load_checkpoint(ModelSettings())
    assert "Loading weights" not in capfd.readouterr().err
    load_checkpoint(ModelSettings(directory=str(directory)))
    assert "Loading weights" in capfd.readouterr().err


@pytest.mark.parametrize("device", ["cuda", "split"])
def test_cuda_on_a_machine_without_it_is_refused_with_the_remedy(
    healthy: Path, device: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(CheckpointError, match=r"set model\.device to 'cpu'"):
        load_model(settings_for(healthy, model__device=device))


def test_the_model_id_differs_between_checkpoints_and_is_the_same_for_one(
    healthy: Path, tmp_path: Path
) -> None:
    other = write_checkpoint(tmp_path / "other", words=("other", "words"))
    assert load_model(settings_for(healthy)).model_id == load_model(settings_for(healthy)).model_id
    assert load_model(settings_for(other)).model_id != load_model(settings_for(healthy)).model_id


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_gives_probabilities(healthy: Path, dtype: str) -> None:
    from model_fixtures import random_frame

    stream = load_cached_model(settings_for(healthy, model__dtype=dtype)).open_stream("front")
    decision = step_alone(stream, random_frame(0), None, lambda decided: decided)
    assert sum(decision.probabilities.values()) == pytest.approx(1.0, abs=1e-3)


def test_a_checkpoint_without_stream_config_gets_the_format_of_instruct_models(
    tmp_path: Path,
) -> None:
    directory = write_checkpoint(
        tmp_path / "plain", words=("silence", "standby", "response", "yes", "no")
    )
    (directory / "stream_config.json").unlink()
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [
        token for token in tokenizer["added_tokens"] if not token["content"].startswith("</")
    ]
    for marker in ("</Silence>", "</Standby>", "</Response>"):
        tokenizer["model"]["vocab"][f"unused {marker}"] = tokenizer["model"]["vocab"].pop(marker)
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = load_cached_model(settings_for(directory))
    assert model.judges_instructions
    assert model.checkpoint.pictures.fixed_size is None


def test_an_empty_setting_loads_the_shipped_model() -> None:
    model = load_model(load_settings({}))
    assert model.model_id.startswith("stream-vlm-small-")
