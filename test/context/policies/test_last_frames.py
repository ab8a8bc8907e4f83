"""The policy last_frames (SimpleStream): the newest pictures and the last question."""

from pathlib import Path

import pytest
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.context.policies.last_frames import LastFramesPolicy
from stream_vlm.context.segments import SegmentKind
from stream_vlm.types import Decision, Query, State

FRAMES = 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def model(directory: Path, recompute: bool) -> StreamingModel:
    return load_cached_model(
        settings_for(
            directory,
            context__policy="last_frames",
            context__frames=FRAMES,
            context__recompute=recompute,
        )
    )


def speak(decision: Decision) -> Decision:
    return Decision(State.RESPONSE, decision.probabilities, confidence=decision.confidence)


def last_decision(model: StreamingModel, first: int, last: int) -> Decision:
    stream = model.open_stream("front")
    for index in range(first, last):
        step_alone(stream, random_frame(index), None, speak)
    return step_alone(stream, random_frame(last), Query("q", "is the door open ?", 0), speak)


@pytest.mark.parametrize("recompute", [True, False])
def test_the_context_holds_only_the_newest_pictures_and_the_last_question(
    directory: Path, recompute: bool
) -> None:
    stream = model(directory, recompute).open_stream("front")
    for index in range(12):
        step_alone(
            stream,
            random_frame(index),
            Query("q", "is the door open ?", 0) if index == 2 else None,
            speak,
        )
    earlier = [segment for segment in stream.context if segment.turn < 11]
    assert [segment.turn for segment in stream.context if segment.kind is SegmentKind.FRAME] == [
        9,
        10,
        11,
    ]
    assert {segment.turn for segment in earlier if segment.kind is SegmentKind.QUERY} == {2}
    assert not any(segment.kind in (SegmentKind.ACTION, SegmentKind.STATE) for segment in earlier)


def test_recomputed_earlier_pictures_do_not_change_the_decision(directory: Path) -> None:
    """The short stream has one picture more, because a temporal patch shows the one before, too."""
    fresh = model(directory, recompute=True)
    long, short = last_decision(fresh, 0, 10), last_decision(fresh, 10 - FRAMES, 10)
    assert (long.state, long.text) == (short.state, short.text)
    assert list(long.probabilities.values()) == pytest.approx(
        list(short.probabilities.values()), abs=1e-5
    )


def test_with_the_cache_earlier_pictures_still_change_the_decision(directory: Path) -> None:
    cached = model(directory, recompute=False)
    long, short = last_decision(cached, 0, 10), last_decision(cached, 10 - FRAMES, 10)
    assert list(long.probabilities.values()) != pytest.approx(
        list(short.probabilities.values()), abs=1e-5
    )


def test_zero_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="turns 0 must be at least 1"):
        LastFramesPolicy(0, 100)
