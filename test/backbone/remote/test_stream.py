"""The chat of a camera only grows, pictures go once, and many leave at once."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from colour_mind import colour_mind, frame, one_step, remote_model, states, watching
from model_server import ModelServer, serve_model

from stream_vlm.backbone.remote.conversation import Seen
from stream_vlm.backbone.remote.pictures import PictureRefused
from stream_vlm.config.field import SettingError
from stream_vlm.model_protocol import Turn
from stream_vlm.types import NANOSECONDS, Frame, Limits, State

pytest.importorskip("httpx", reason="httpx sends the requests")

RED = watching("something red")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(colour_mind) as running:
        yield running


def sent(server: ModelServer, number: int = -1) -> list[bool]:
    """For each picture of a request whether its bytes were sent."""
    return [
        part["image_url"]["url"] is not None
        for message in server.requests[number]["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


def before_question(text: str) -> str:
    return text.rpartition("\nWatch for: ")[0]


def test_each_prompt_begins_with_all_of_the_one_before_but_its_question(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    for second in range(5):
        one_step(model, stream, "grey", second, RED)
    texts = [before_question(prompt.text) for prompt in server.prompts[-5:]]
    for earlier, later in itertools.pairwise(texts):
        assert later.startswith(earlier)
        assert len(later) > len(earlier)


def test_the_time_of_each_picture_is_written_before_it(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    for second in (0, 0.5, 2):
        one_step(model, stream, "grey", second, RED)
    assert "user\n0.0 s<picture>0.5 s<picture>2.0 s<picture>\nWatch for:" in server.prompts[-1].text


def test_the_settings_name_the_time_marker_and_the_system_prompt(server: ModelServer) -> None:
    model = remote_model(
        server.url,
        model__turn_pieces=["time=[{start} to {end}]"],
        model__system_prompt="You guard a gate.",
        model__language="German",
    )
    stream = model.open_stream("front")
    for second in (0, 2):
        one_step(model, stream, "grey", second, RED)
    text = server.prompts[-1].text
    assert "[0 to 1]<picture>[2 to 3]<picture>" in text
    assert "system\nYou guard a gate. Write every sentence in German.<|im_end|>" in text


def test_a_piece_of_the_turns_that_the_server_writes_is_refused(server: ModelServer) -> None:
    with pytest.raises(SettingError, match="only the piece time can be changed"):
        remote_model(server.url, model__turn_pieces=["query={query}"])


def test_only_the_newest_picture_is_sent_where_the_server_keeps_them(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    for second in range(3):
        one_step(model, stream, "grey", second, RED)
    assert sent(server) == [False, False, True]
    assert len(server.prompts[-1].pictures) == 3


def test_all_pictures_are_sent_where_the_server_keeps_none() -> None:
    with serve_model(colour_mind, keeps=False) as server:
        model = remote_model(server.url)
        stream = model.open_stream("front")
        for second in range(3):
            one_step(model, stream, "grey", second, RED)
        assert sent(server) == [True, True, True]


def test_names_of_pictures_are_long_and_never_used_twice(server: ModelServer) -> None:
    model = remote_model(server.url)
    streams = [model.open_stream(camera) for camera in ("front", "back")]
    for second in range(3):
        for stream in streams:
            one_step(model, stream, "grey", second, RED)
    names = {name for prompt in server.prompts for name in prompt.names}
    assert all(len(name) == 32 for name in names)
    assert len(names) == 2 + 2 * 3  # two of the probe, and one for each camera and second


def test_pictures_that_the_server_lost_are_sent_again_in_the_same_step(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "grey", 0, RED)
    server.restart()
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}
    assert model.figures["pictures sent again"] == 1
    assert len(server.prompts[-1].pictures) == 2


def test_a_picture_of_a_refused_request_is_sent_with_its_bytes(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "grey", 0, RED)
    # The server has the name of the picture but not the picture.
    names = set(server.pictures.kept)
    server.pictures.half |= names
    assert states(one_step(model, stream, "red", 1, RED)) == {"something red": State.RESPONSE}
    assert server.pictures.half & {name for name in server.prompts[-1].names if name} == set()


def test_a_report_stays_in_the_chat_when_the_loop_says_that_it_was_made(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "red", 0, RED)
    said = (replace(RED[0], reported="The picture is red.", reported_ns=NANOSECONDS),)
    for second in (1, 2):
        one_step(model, stream, "grey", second, said)
    text = server.prompts[-1].text
    assert (
        text.count("<|im_start|>assistant\nThe picture is red.<|im_end|>\n<|im_start|>user\n1.0 s")
        == 1
    )
    assert 'You reported at 0 s: "The picture is red."' in text


def test_a_report_that_was_not_made_leaves_no_trace(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "red", 0, RED)
    one_step(model, stream, "grey", 1, RED)
    assert "assistant\nThe" not in server.prompts[-1].text


def test_half_of_the_pictures_leave_at_once_when_the_time_is_full(server: ModelServer) -> None:
    model = remote_model(server.url, context__max_seconds=4.0)
    stream = model.open_stream("front")
    counts = []
    for second in range(12):
        one_step(model, stream, "grey", second, RED)
        counts.append(len(server.prompts[-1].pictures))
    assert counts == [1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3]


def test_without_a_set_time_the_number_of_pictures_is_bounded(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_vlm.backbone.remote.stream.MOST_PICTURES", 5)
    for seconds, most in ((0.0, 5), (30.0, 12)):
        model = remote_model(server.url, context__max_seconds=seconds)
        stream = model.open_stream("front")
        for number in range(12):
            one_step(model, stream, "grey", number / 10, RED)
        assert max(len(prompt.pictures) for prompt in server.prompts[-12:]) == most


def test_the_chat_never_gets_longer_than_the_server_takes() -> None:
    with serve_model(colour_mind, longest=1000) as server:
        model = remote_model(server.url)
        stream = model.open_stream("front")
        for second in range(30):
            states(one_step(model, stream, "grey", second, RED))
        numbers = [len(prompt.pictures) for prompt in server.prompts[-30:]]
        assert max(numbers) >= 5
        assert numbers[-1] < max(numbers)


def test_a_new_chunk_begins_with_what_happened_before(server: ModelServer) -> None:
    model = remote_model(server.url, context__max_seconds=2.0)
    stream = model.open_stream("front")
    calls = 0

    def memory() -> list[str]:
        nonlocal calls
        calls += 1
        return [f"line {calls}"]

    for second in range(5):
        turn = Turn(stream, frame("grey", second), judgements=RED, memory=memory)
        states(model.step([turn])[0])
    assert "user\n[Video History]\nline 2\n2.0 s<picture>" in server.prompts[-1].text
    assert calls == 2


def test_a_chat_that_is_cleared_begins_again(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "grey", 5, RED)
    stream.reset()
    one_step(model, stream, "grey", 9, RED)
    assert "user\n0.0 s<picture>\nWatch" in server.prompts[-1].text


def test_pictures_are_sent_small_and_smaller_under_load(server: ModelServer) -> None:
    model = remote_model(server.url)
    image = np.zeros((1080, 1920, 3), np.uint8)
    big = Frame("front", NANOSECONDS, "", image)
    for share in (1.0, 0.25):
        stream = model.open_stream("front")
        model.step([Turn(stream, big, judgements=RED, limits=Limits(picture_share=share))])
    full, less = (prompt.pictures[-1].shape for prompt in server.prompts[-2:])
    assert full == (238, 422, 3)
    assert less == (119, 211, 3)


def test_the_setting_of_vision_tokens_bounds_the_pixels(server: ModelServer) -> None:
    model = remote_model(server.url, vision__max_tokens=32)
    stream = model.open_stream("front")
    big = Frame("front", NANOSECONDS, "", np.zeros((1000, 1000, 3), np.uint8))
    model.step([Turn(stream, big, judgements=RED)])
    assert server.prompts[-1].pictures[-1].shape == (158, 158, 3)


def test_a_picture_without_pixels_is_refused_and_leaves_the_chat_as_it_was(
    server: ModelServer,
) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "grey", 0, RED)
    empty = Frame("front", 2 * NANOSECONDS, "", np.zeros((0, 10, 3), np.uint8))
    outcome = model.step([Turn(stream, empty, judgements=RED)])[0]
    assert isinstance(outcome, PictureRefused)
    assert [type(entry) for entry in stream.conversation.entries] == [Seen]
