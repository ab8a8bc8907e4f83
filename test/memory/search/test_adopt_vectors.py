"""Text vectors of an older file, which names the model by its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import begin, looking_into, settings, step, vector_models

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.search.vectors import Vectors


class FolderEmbedder:
    """A text model that turns words into vectors by a seed."""

    def __init__(self, name: str, seed: int, folder_name: str = "minilm") -> None:
        self.name = name
        self.folder_name = folder_name
        self._seed = seed

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [
            np.random.default_rng([self._seed, *text.encode()]).normal(size=16) for text in texts
        ]
        return np.asarray([row / np.linalg.norm(row) for row in rows], np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of an older version: the vectors have the name of the folder."""
    file = tmp_path / "memory.db"
    with Memory.open(settings(file)) as memory:
        memory.use_embedder(FolderEmbedder("minilm", 1))
        begin(memory)
        for at in range(12):
            memory.write(step(at, said=f"happening {at}"))
    return file


def test_vectors_of_the_same_model_are_kept_under_its_digest(file: Path) -> None:
    with Memory.open(settings(file)) as memory:
        memory.use_embedder(FolderEmbedder("sha256:aa", 1))
        found = memory.recall(RecallQuery("happening 3", order="fused"))
    assert found.note == ""
    assert [(one.name, one.number) for one in vector_models(file)] == [("sha256:aa", 24)]


def test_vectors_of_another_model_in_a_folder_of_the_same_name_are_never_compared(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Memory.open(settings(file)) as memory:
        memory.use_embedder(FolderEmbedder("sha256:bb", 2))
        assert "are of another model" in caplog.text
        found = memory.recall(RecallQuery("happening 3", order="fused"))
        assert "0 of 24 texts have a vector of sha256:bb" in found.note
        assert memory.reembed() == 24
        assert memory.recall(RecallQuery("happening 3", order="fused")).note == ""
    assert [(one.name, one.number) for one in vector_models(file)] == [("sha256:bb", 24)]


def test_vectors_that_were_made_under_the_digest_meanwhile_stay(file: Path) -> None:
    with Memory.open(settings(file)) as memory:
        memory.use_embedder(FolderEmbedder("sha256:aa", 1, folder_name="other"))
        begin(memory, "tuesday")
        memory.write(step(50, said="the door opens", session="tuesday"))
        memory.use_embedder(FolderEmbedder("sha256:aa", 1))
    assert [(one.name, one.number) for one in vector_models(file)] == [("sha256:aa", 26)]
    with looking_into(file) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
