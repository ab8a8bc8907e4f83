"""Messages and the library's types have the same values, and a request becomes the right query."""

from __future__ import annotations

from typing import Any

import pytest
from stream_vlm_ros.action import Ask
from stream_vlm_ros.msg import MemoryRecord, StreamState
from stream_vlm_ros.srv import Forget, Recall

from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.answers.question_kind import AUTO, MODES
from stream_vlm.memory.search.query import ORDERS, Place, RecallError, RecallQuery
from stream_vlm.memory.storage.step_rows import KINDS
from stream_vlm.types import State
from stream_vlm_ros.common.conversions import (
    STATE_CODES,
    forget_query,
    recall_query,
    recall_response,
)


def constants(interface: Any, prefix: str = "") -> dict[str, Any]:
    """The constants of an interface whose name begins with `prefix`, without it."""
    names = [name for name in dir(type(interface)) if name.isupper() and name[0] != "_"]
    return {
        name.removeprefix(prefix): getattr(interface, name)
        for name in names
        if name.startswith(prefix)
    }


def named(values: Any) -> dict[str, str]:
    """How constants with these values are named."""
    return {value.upper(): value for value in values}


def test_the_constants_of_the_interfaces_are_the_values_of_the_library() -> None:
    assert constants(MemoryRecord, "KIND_") == named(KINDS)
    assert constants(MemoryRecord, "STATE_") == named(state.value for state in State)
    assert constants(Recall.Request, "MODE_") == named((AUTO, *MODES))
    assert constants(StreamState) == {
        state.value.upper(): code for state, code in STATE_CODES.items()
    }
    assert set(STATE_CODES) == set(State)
    assert constants(Ask.Result) == named(("model", "memory", "delegate"))
    orders = constants(Recall.Request)
    assert {k: v for k, v in orders.items() if not k.startswith("MODE_")} == named(ORDERS)


@pytest.mark.parametrize("mode", [AUTO, *MODES])
def test_the_response_names_the_mode_that_was_used(mode: str) -> None:
    response = recall_response(Answer(mode, True, "once"), Recall.Response())
    assert response.mode == mode


@pytest.mark.parametrize(
    ("make", "request_type"), [(recall_query, Recall.Request), (forget_query, Forget.Request)]
)
def test_a_place_has_the_frame_and_session_of_its_request(make: Any, request_type: Any) -> None:
    query = make(
        request_type(near=True, x=1.0, y=2.0, radius=3.0, frame_id="odom", session_id="monday")
    )
    assert (query.place, query.session_id) == (Place(1.0, 2.0, 3.0, "odom"), "monday")


@pytest.mark.parametrize(
    ("make", "request_type"), [(recall_query, Recall.Request), (forget_query, Forget.Request)]
)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"frame_id": "map"}, "frame_id: given without near"),
        ({"x": 1.0, "radius": 2.0}, "x and radius: given without near"),
    ],
)
def test_a_place_without_near_is_refused_and_not_ignored(
    make: Any, request_type: Any, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecallError, match=says):
        make(request_type(cameras=["front"], **given))


def test_forget_refuses_everything_together_with_a_session() -> None:
    with pytest.raises(RecallError, match="everything and a filter"):
        forget_query(Forget.Request(everything=True, session_id="monday"))


def test_an_empty_request_has_the_defaults_of_the_library() -> None:
    assert recall_query(Recall.Request()) == RecallQuery()
