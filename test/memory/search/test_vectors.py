"""Search by text and picture vectors: exact, and never across models."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_fixtures import begin, picture, seconds, settings, step, vector_models
from numpy.typing import NDArray

from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery, RecallResult
from stream_vlm.memory.search.vectors import VectorModel
from stream_vlm.memory.storage.errors import RecallError

MEANINGS = {
    "arrive": 0,
    "enters": 0,
    "comes": 0,
    "leaves": 1,
    "departs": 1,
    "ball": 2,
    "sphere": 2,
    "door": 3,
    "gate": 3,
}


class FourMeanings:
    """A text model that knows nine words with four meanings."""

    def __init__(self, name: str = "nine-words", size: int = 5) -> None:
        self.name = name
        self._size = size

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(texts), self._size), 0.01, np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall("[a-z]+", text):
                if word in MEANINGS:
                    vector[MEANINGS[word]] += 1
        return vectors


@pytest.fixture
def memory(file: Path) -> Iterator[Memory]:
    with Memory.open(settings(file)) as memory:
        memory.use_embedder(FourMeanings())
        begin(memory)
        for at, said in enumerate(
            (
                "someone enters",
                "a sphere rolls past",
                "the gate opens",
                "someone leaves",
                "a lamp turns on",
            )
        ):
            memory.write(step(10 * at, said=said))
        yield memory


def fused(memory: Memory, text: str, **filters: Any) -> RecallResult:
    return memory.recall(RecallQuery(text, order="fused", kinds=("event",), **filters))


def test_a_record_is_found_by_meaning_without_any_of_the_words(memory: Memory) -> None:
    assert memory.recall(RecallQuery("ball")).total == 0
    assert fused(memory, "ball").records[0].text == "a sphere rolls past"
    assert fused(memory, "who comes").records[0].text == "someone enters"


def test_words_and_vectors_together_rank_better_than_either_alone(memory: Memory) -> None:
    memory.write(step(100, said="someone departs by the door"))
    texts = [record.text for record in fused(memory, "someone leaves").records]
    assert texts[:2] == ["someone leaves", "someone departs by the door"]


def test_filters_apply_before_ranking(memory: Memory) -> None:
    result = fused(memory, "ball", start_ns=seconds(15), end_ns=seconds(35))
    assert {record.text for record in result.records} == {"the gate opens", "someone leaves"}
    assert fused(memory, "ball", cameras=("rear",)).records == ()


def test_without_a_text_model_words_are_ranked_and_a_note_says_so(memory: Memory) -> None:
    memory.use_embedder(None)
    result = fused(memory, "gate")
    assert [record.text for record in result.records] == ["the gate opens"]
    assert "no text model is in use" in result.note


@pytest.mark.parametrize(
    "other",
    [FourMeanings("ten-words"), FourMeanings(size=6)],
    ids=["of another model", "of another size"],
)
def test_vectors_of_another_model_or_size_are_never_compared(
    memory: Memory, other: FourMeanings
) -> None:
    memory.use_embedder(other)
    result = fused(memory, "ball")
    assert result.records == ()
    assert "0 of 10 texts have a vector" in result.note
    assert "stream-vlm memory embed" in result.note


def test_reembed_gives_every_text_a_vector_of_the_current_model_and_deletes_the_others(
    memory: Memory,
) -> None:
    memory.use_embedder(FourMeanings("ten-words", size=6))
    assert memory.reembed(batch=3) == 10
    assert vector_models(memory.path) == (VectorModel("ten-words", 6, "record", 10),)
    result = fused(memory, "ball")
    assert (result.records[0].text, result.note) == ("a sphere rolls past", "")
    assert memory.reembed() == 0


def test_later_records_are_found_and_deleted_ones_are_not(memory: Memory) -> None:
    assert fused(memory, "ball").total == 5
    memory.write(step(200, said="a ball rolls past"))
    assert fused(memory, "sphere").total == 6
    memory.forget(Forget(start_ns=seconds(5), end_ns=seconds(15)))
    assert [record.text for record in fused(memory, "sphere").records].count(
        "a sphere rolls past"
    ) == 0
    assert fused(memory, "sphere").records[0].text == "a ball rolls past"


def test_a_vector_is_stored_in_the_transaction_of_its_record(memory: Memory, file: Path) -> None:
    class Blind(FourMeanings):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.full((len(texts), 5), np.nan, np.float32)

    before = memory.count()
    memory.use_embedder(Blind())
    with pytest.raises(RecallError, match="has no direction"):
        memory.write(step(300, said="a ball"))
    assert memory.count() == before
    with sqlite3.connect(file) as tool:
        assert tool.execute("SELECT count(*) FROM record_vector").fetchone() == (10,)
        assert tool.execute(
            "SELECT count(*) FROM record WHERE text <> '' AND id NOT IN (SELECT record_id FROM"
            " record_vector)"
        ).fetchone() == (0,)


def looks(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


@pytest.fixture
def seen(file: Path) -> Iterator[Memory]:
    """Three pictures, two of which are nearly the same."""
    with Memory.open(settings(file)) as memory:
        begin(memory)
        for at, vector in enumerate((looks(1, 0, 0), looks(0, 1, 0), looks(0.9, 0.1, 0))):
            memory.write(
                replace(
                    step(10 * at, said=f"picture {at}", image=picture(red=at)),
                    picture_vectors={"front": vector},
                )
            )
        yield memory


def test_pictures_similar_to_that_of_a_record_are_sorted_by_similarity(seen: Memory) -> None:
    first = seen.recall(RecallQuery(order="oldest", kinds=("event",))).records[0]
    alike = seen.search_by_record(first.record_id, RecallQuery(kinds=("event",)))
    assert [record.text for record in alike.records] == ["picture 0", "picture 2", "picture 1"]
    assert alike.records[0].score == pytest.approx(1.0, abs=1e-3)
    assert alike.records[2].score == pytest.approx(0.0, abs=1e-3)


def test_a_picture_search_by_vector_applies_filters(seen: Memory) -> None:
    query = RecallQuery(kinds=("event",), start_ns=seconds(15))
    alike = seen.search_by_picture(looks(5, 0, 0), query, "model-of-the-test")
    assert [record.text for record in alike.records] == ["picture 2"]


@pytest.mark.parametrize(
    ("like", "model", "message"),
    [
        (
            looks(1, 0),
            "model-of-the-test",
            (
                "no vectors of 'model-of-the-test' with 2 numbers are stored, but 3 of"
                " 'model-of-the-test' with 3"
            ),
        ),
        (looks(1, 0, 0), "another", "no vectors of 'another' with 3 numbers"),
        (looks(0, 0, 0), "model-of-the-test", "a vector of length 0.0 has no direction"),
        (
            np.zeros((2, 3), np.float32),
            "model-of-the-test",
            r"an array of shape \(2, 3\) is not a vector",
        ),
    ],
)
def test_a_picture_that_cannot_be_compared_is_refused(
    seen: Memory, like: NDArray[np.float32], model: str, message: str
) -> None:
    with pytest.raises(RecallError, match=message):
        seen.search_by_picture(like, RecallQuery(), model)


def test_a_record_without_a_picture_vector_cannot_be_searched_by(seen: Memory) -> None:
    with pytest.raises(RecallError, match="record 999: no picture vector is stored"):
        seen.search_by_record(999, RecallQuery())


def test_vector_search_stays_exact_while_vectors_are_added(file: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    with Memory.open(settings(file)) as memory:
        begin(memory)
        for at, vector in enumerate(vectors):
            memory.write(replace(step(at), picture_vectors={"front": vector}))
            if at % 100 == 50:
                memory.search_by_picture(
                    vector, RecallQuery(kinds=("observation",)), "model-of-the-test"
                )
        wanted = rng.normal(size=16).astype(np.float32)
        alike = memory.search_by_picture(
            wanted, RecallQuery(kinds=("observation",), limit=10), "model-of-the-test"
        )
    cosines = vectors @ wanted / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted)
    assert [record.start_ns for record in alike.records] == [
        seconds(at) for at in np.argsort(-cosines)[:10]
    ]
