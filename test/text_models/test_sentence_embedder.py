"""A sentence-transformers directory as the memory's text model, made here with random weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import begin, settings, step
from model_fixtures import write_sentence_model

from stream_vlm.cli import main
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.text_models.sentence_embedder import EmbeddingError, SentenceEmbedder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_model(tmp_path_factory.mktemp("models") / "tiny-words")


def pool_by(folder: Path, way: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    ways = {
        name: name == way
        for name in (
            "pooling_mode_cls_token",
            "pooling_mode_mean_tokens",
            "pooling_mode_max_tokens",
        )
    }
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 24, **ways}), encoding="utf-8"
    )


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(
    directory: Path,
) -> None:
    pool_by(directory, "pooling_mode_mean_tokens")
    embedder = SentenceEmbedder(directory)
    together = embedder.embed(["red ball", "a door opens in"])
    assert (embedder.folder_name, embedder.size) == ("tiny-words", 24)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(embedder.embed(["red ball"])[0], together[0], atol=1e-5)
    assert embedder.embed([]).shape == (0, 24)


def test_a_model_is_known_by_its_files_and_not_by_the_name_of_its_folder(
    directory: Path, tmp_path: Path
) -> None:
    name = SentenceEmbedder(directory).name
    copy = tmp_path / "another-name"
    shutil.copytree(directory, copy)
    (copy / "README.md").write_text("another page")
    (copy / ".cache.json").write_text("{}")
    assert SentenceEmbedder(copy).name == name
    other = tmp_path / "elsewhere" / directory.name
    shutil.copytree(directory, other)
    weights = other / "model.safetensors"
    contents = bytearray(weights.read_bytes())
    contents[-1] ^= 1
    weights.write_bytes(contents)
    assert SentenceEmbedder(other).name != name
    pool_by(copy, "pooling_mode_cls_token")
    assert SentenceEmbedder(copy).name != name


def test_a_link_to_a_folder_is_the_same_model(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    assert SentenceEmbedder(tmp_path / "link").name == SentenceEmbedder(directory).name


def test_pooling_follows_the_directory(directory: Path) -> None:
    texts = ["red ball rolls in"]
    pool_by(directory, "pooling_mode_cls_token")
    first = SentenceEmbedder(directory).embed(texts)
    pool_by(directory, "pooling_mode_mean_tokens")
    mean = SentenceEmbedder(directory).embed(texts)
    assert np.abs(first - mean).max() > 1e-3


def test_an_unusable_directory_is_refused_with_the_reason(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddingError,
        match=r"has no config\.json; give the directory of a sentence-transformers model",
    ):
        SentenceEmbedder(tmp_path)
    pool_by(directory, "pooling_mode_max_tokens")
    with pytest.raises(
        EmbeddingError,
        match="pooling pooling_mode_max_tokens is not supported, only the mean of the tokens or",
    ):
        SentenceEmbedder(directory)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EmbeddingError, match="cannot be loaded as a text embedding model"):
        SentenceEmbedder(tmp_path)


def test_the_command_line_embeds_a_memory_and_searches_it_by_vectors(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool_by(directory, "pooling_mode_mean_tokens")
    file = tmp_path / "memory.db"
    with Memory.open(settings(file)) as memory:
        begin(memory)
        memory.write(step(1, said="red ball rolls in"))
        memory.write(step(9, said="a door opens"))
    assert main(["memory", "embed", str(directory), "--memory", str(file)]) == 0
    assert "4 texts embedded" in capsys.readouterr().out
    asked = [
        "recall",
        "--memory",
        str(file),
        "--order",
        "fused",
        "--text-model",
        str(directory),
        "red ball rolls in",
    ]
    assert main(asked) == 0
    assert "red ball rolls in" in capsys.readouterr().out.splitlines()[1]
    with Memory.open(settings(file), read_only=True) as memory:
        assert "no text model" in memory.recall(RecallQuery("ball", order="fused")).note
