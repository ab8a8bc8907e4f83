"""Pictures are found by the vectors of the vision tower that processed them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from memory_fixtures import begin, picture, seconds, settings, step, vector_models
from model_fixtures import settings_for, write_checkpoint
from numpy.typing import NDArray

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.cli import main
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.errors import RecallError
from stream_vlm.types import NANOSECONDS, Frame, StepResult, Tick
from stream_vlm.vision.tower import VisionTokens

CAMERAS = ("front", "rear")


def scene(number: int) -> NDArray[np.uint8]:
    """A picture unlike the others: stripes of its own colour and width, uint8 RGB (96, 128, 3)."""
    image = np.full((96, 128, 3), 40 * number % 256, np.uint8)
    image[:, :: number + 2] = (250 - 45 * number % 200, 60 * number % 256, 30)
    return image


def tick(index: int, numbers: Sequence[int]) -> Tick:
    stamp_ns = (index + 1) * NANOSECONDS
    frames = tuple(
        Frame(camera, stamp_ns, "optical", scene(number))
        for camera, number in zip(CAMERAS, numbers, strict=False)
    )
    return Tick(index, stamp_ns, frames)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(directory: Path) -> StreamingModel:
    return load_cached_model(settings_for(directory))


@pytest.fixture
def watched(model: StreamingModel, file: Path) -> Iterator[Memory]:
    """Five scenes, each shown four times in a row to one camera."""
    with Memory.open(settings(file)) as memory:
        memory.begin_session("s", model.model_id, "test", 0)
        harness = StreamingHarness(model.settings, model, "s")
        for index in range(20):
            memory.write(harness.step(tick(index, [index // 4])))
        yield memory


def test_the_picture_vector_of_a_camera_is_the_mean_of_its_vision_tokens(
    model: StreamingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[VisionTokens] = []
    encode = model.parts.tower.encode

    def listening(pictures: NDArray[np.uint8]) -> list[VisionTokens]:
        tokens = encode(pictures)
        encoded.extend(tokens)
        return tokens

    monkeypatch.setattr(model.parts.tower, "encode", listening)
    result = StreamingHarness(model.settings, model, "s").step(tick(0, [1, 3]))
    # The tower encoded each picture once.
    assert len(encoded) == 2
    for camera, tokens in zip(CAMERAS, encoded, strict=True):
        mean = tokens.tokens.float().mean(0).numpy()
        np.testing.assert_allclose(
            result.picture_vectors[camera], mean / np.linalg.norm(mean), atol=1e-6
        )
    assert abs(float(result.picture_vectors["front"] @ result.picture_vectors["rear"])) < 0.9999


def test_a_single_picture_can_be_compared_with_a_static_one_of_the_stream(
    model: StreamingModel,
) -> None:
    harness = StreamingHarness(model.settings, model, "s")
    results = [harness.step(tick(index, [2])) for index in range(2)]
    np.testing.assert_allclose(
        model.embed(scene(2)), results[-1].picture_vectors["front"], atol=1e-5
    )


def test_the_setting_disables_picture_vectors(directory: Path) -> None:
    off = load_cached_model(settings_for(directory, memory__picture_vectors=False))
    result = StreamingHarness(off.settings, off, "s").step(tick(0, [1]))
    assert not result.picture_vectors
    assert result.decisions


def test_similar_pictures_come_first_and_filters_apply(
    model: StreamingModel, watched: Memory
) -> None:
    alike = watched.search_by_picture(model.embed(scene(3)), RecallQuery(limit=3), model.model_id)
    assert alike.note == ""
    assert alike.total == 20
    assert {record.start_ns // NANOSECONDS for record in alike.records} <= {13, 14, 15, 16}
    before = watched.search_by_picture(
        model.embed(scene(3)), RecallQuery(limit=3, end_ns=12 * NANOSECONDS), model.model_id
    )
    assert all(record.end_ns <= 12 * NANOSECONDS for record in before.records)
    assert before.total == 12
    assert not watched.search_by_picture(
        model.embed(scene(3)), RecallQuery(cameras=("rear",)), model.model_id
    ).records


def test_words_and_pictures_are_ranked_together(file: Path) -> None:
    red, blue, grey = (
        np.array(numbers, np.float32) for numbers in ((1, 0, 0), (0, 1, 0), (0.6, 0.6, 0.5))
    )
    shown = [(red, "a red box"), (red, "a cup"), (blue, "a cup"), (grey, "")]
    with Memory.open(settings(file)) as memory:
        begin(memory)
        for at, (vector, said) in enumerate(shown):
            result = step(10.0 * at, said=said, image=picture(red=at))
            memory.write(StepResult(**{**vars(result), "picture_vectors": {"front": vector}}))
        alike = memory.search_by_picture(red, RecallQuery("cup"), "model-of-the-test").records
    # By picture alone the first two are equal, by words alone the second and the third.
    assert (alike[0].text, alike[0].end_ns) == ("a cup", seconds(10)), "the second fits both"
    assert alike[0].score > alike[1].score
    assert len({record.start_ns for record in alike}) == len(alike), "one record a picture"


def test_vectors_of_another_model_are_not_compared_and_the_remedy_is_named(
    watched: Memory,
) -> None:
    with pytest.raises(
        RecallError,
        match=(
            r"no vectors of 'another' with 256 numbers .* but 20 of .*"
            r"'stream-vlm memory embed --pictures'"
        ),
    ):
        watched.search_by_picture(np.ones(256, np.float32), RecallQuery(), "another")


def test_reembed_pictures_computes_vectors_with_another_model(
    watched: Memory, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_checkpoint(tmp_path / "other", layers=2)
    watched.close()
    cv2.imwrite(str(tmp_path / "like.png"), cv2.cvtColor(scene(3), cv2.COLOR_RGB2BGR))
    asked = [
        "recall",
        "--memory",
        str(file),
        "--like",
        str(tmp_path / "like.png"),
        "--model",
        str(other),
        "--limit",
        "2",
    ]
    assert main(asked) == 1
    assert "stream-vlm memory embed --pictures" in capsys.readouterr().err
    assert main(["memory", "embed", "--pictures", str(other), "--memory", str(file)]) == 0
    assert capsys.readouterr().out == "20 pictures embedded\n"
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "2 of 20 records" in shown
    assert all(
        any(f"{second}.0 s" in line for second in (13, 14, 15, 16))
        for line in shown.splitlines()[1:3]
    ), shown
    assert [(model.of, model.number) for model in vector_models(file)] == [("picture", 20)]


def test_search_by_the_picture_of_a_record_needs_no_model(
    watched: Memory, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = watched.recall(RecallQuery(kinds=("observation",), order="newest", limit=1)).records[0]
    watched.close()
    assert (
        main(
            [
                "recall",
                "--memory",
                str(file),
                "--like-record",
                str(newest.record_id),
                "--limit",
                "1",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert any(f"{second}.0 s" in shown for second in (17, 18, 19, 20)), shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xd8" + bytes(500), "a truncated JPEG of 502 bytes; give the whole file"),
        (b"not a picture", "13 bytes that are not a picture; give a JPEG or PNG"),
        (b"", "0 bytes that are not a picture"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_not_a_picture_is_refused_with_one_message(
    content: bytes | None,
    message: str,
    watched: Memory,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "like.jpg").write_bytes(content)
    assert main(["recall", "--memory", str(file), "--like", str(tmp_path / "like.jpg")]) == 1
    assert message in capsys.readouterr().err


def test_combining_two_kinds_of_search_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recall", "--memory", str(file), "--like", "a.jpg", "--like-record", "3"]) == 2
    assert "choose one" in capsys.readouterr().err
