"""Every stream names itself, so that its requests reach the server that has cached it."""

from collections.abc import Iterator

import pytest
from colour_mind import colour_mind, frame, one_step, remote_model, watching
from model_server import ModelServer, serve_model

from stream_vlm.model_protocol import Turn

pytest.importorskip("httpx", reason="httpx sends the requests")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_model(colour_mind) as running:
        yield running


def test_all_requests_of_a_stream_name_the_same_session(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream, probes = model.open_stream("front"), len(server.sessions)
    judgements = watching("something red", "something blue", verify=True)
    for second in range(2):
        one_step(model, stream, "red", second, judgements, question="Which colour is it?")
    sessions = server.sessions[probes:]
    assert len(sessions) >= 8
    assert set(sessions) == {stream.session}


def test_a_stream_keeps_its_session_when_its_context_is_cleared(server: ModelServer) -> None:
    stream = remote_model(server.url).open_stream("front")
    before = stream.session
    stream.reset()
    assert stream.session == before


def test_cameras_of_one_step_and_of_two_robots_have_sessions_of_their_own(
    server: ModelServer,
) -> None:
    named: set[str] = set()
    for _ in range(2):
        model, probes = remote_model(server.url), len(server.sessions)
        model.step(
            [
                Turn(
                    model.open_stream(camera),
                    frame("blue", 0, camera),
                    judgements=watching("something red"),
                )
                for camera in ("front", "back")
            ]
        )
        assert len(server.sessions) - probes == 2
        named |= set(server.sessions[probes:])
    assert len(named) == 4


def test_a_picture_that_is_sent_again_goes_to_the_same_server(server: ModelServer) -> None:
    model = remote_model(server.url)
    stream = model.open_stream("front")
    one_step(model, stream, "red", 0, watching("something red"))
    server.restart()
    before = len(server.sessions)
    one_step(model, stream, "red", 1, watching("something red"))
    assert model.figures["pictures sent again"] == 1
    assert set(server.sessions[before:]) == {stream.session}


def test_the_requests_of_a_probe_are_one_session(server: ModelServer) -> None:
    remote_model(server.url)
    assert len(server.sessions) > 3
    assert len(set(server.sessions)) == 1
    assert server.sessions[0]
