"""Everything that users ask of the node, and whether each request got an answer."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from action_msgs.msg import GoalStatus
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from stream_vlm_ros.action import Ask, Watch
from stream_vlm_ros.srv import Forget, GetFrame, Recall

DEADLINE_S = 30.0
"""A request without an answer for so long is lost. ~/ask itself gives up after ten seconds."""
ASK_S = 11.0
"""A question that the node has accepted ends within this time."""
FOUND_OVER_LINK_S = 5.0
"""A lossy link may need so long until both sides know each other's endpoints. A node whose side
does not know the client yet sends its answer to nobody."""
WATCH_S = (1.0, 5.0)
QUESTIONS = (
    "is the door open?",
    "what colour is the ball?",
    "where is the ball?",
    "when did the door last open?",
    "how often did the door open?",
    "did anybody come in?",
    "how long was the lamp on?",
    "who wrote faust?",
    "",
)
WORDS = ("door", "red ball", "person", "lamp", "", '"(broken AND')
MODES = ("", "", "auto", "first", "how_often", "no such mode")
VALID: tuple[tuple[str, float | int | str | bool], ...] = (
    ("decision.response_threshold", 0.05),
    ("decision.response_threshold", 0.0),
    ("events.grace_s", 30.0),
    ("events.boundary", "frames"),
    ("memory.thumbnail_quality", 60),
    ("memory.thumbnail_width", 160),
    ("stream.rate_hz", 0.1),
    ("load_shedding.enabled", True),
    ("diagnostics.silent_after_s", 2.0),
)
INVALID: tuple[tuple[str, float | int | str | bool], ...] = (
    ("stream.rate_hz", 1000.0),
    ("stream.rate_hz", "fast"),
    ("events.boundary", "somewhere"),
    ("memory.path", "/elsewhere.db"),
    ("memory.thumbnail_quality", -1),
    ("model.device", "toaster"),
)


@dataclass
class Pending:
    """A request that was sent; `sent` is of `time.monotonic`."""

    kind: str
    what: str
    sent: float
    phase: str
    accepted: bool = False


@dataclass(frozen=True)
class Unanswered:
    """A request without an answer.

    Attributes:
        sent: when, by `time.monotonic`, which all processes of a computer share.
        accepted: whether the node had accepted it; a service does not say so.
        what: a description.
    """

    sent: float
    accepted: bool
    what: str

    def is_lost(self, gone: Sequence[tuple[float, float]], *, over_link: bool = False) -> bool:
        """Whether it should have been answered.

        Args:
            gone: when the node had no services, because it was cleaned up. A request that was under
                way then reached nobody.
            over_link: whether a link may have lost the request or the answer. What is gone cannot
                send it again, so requests of the last seconds before are not counted, and neither
                are those of the seconds in which both sides find each other again.
        """
        if self.accepted and not over_link:
            return True
        before_s, after_s = (ASK_S, FOUND_OVER_LINK_S) if over_link else (0.0, 0.0)
        return not any(begin - before_s <= self.sent <= end + after_s for begin, end in gone)


class Requests:
    """Sends a request now and then. Everything runs on the thread that spins the node.

    Attributes:
        is_open: whether requests are sent now.
        phase: what the driver does now, for the description of a lost request.
        counts: requests by kind and outcome: answered, refused (with a reason), killed (the node
            was killed meanwhile), wrong (a false value was taken, or a right one not), and
            unanswered.
        unanswered: those without an answer, and with an answer that says nothing.
        wrong: descriptions of the wrong ones.
    """

    def __init__(
        self,
        node: Node,
        rng: random.Random,
        period_s: float,
        *,
        on_records: Callable[[list[Any]], None] = lambda records: None,
        on_answer: Callable[[str, str], None] = lambda query_id, text: None,
    ) -> None:
        self._rng = rng
        self._on_records = on_records
        self._on_answer = on_answer
        self._number = itertools.count()
        self._pending: dict[int, Pending] = {}
        self._seen: list[int] = []
        self.is_open = False
        self.phase = ""
        self.counts: Counter[str] = Counter()
        self.unanswered: list[Unanswered] = []
        self.wrong: list[str] = []
        self._ask = ActionClient(node, Ask, "stream_vlm/ask")
        self._watch = ActionClient(node, Watch, "stream_vlm/watch")
        self._services = {
            kind: node.create_client(kind, f"stream_vlm/{name}")
            for kind, name in (
                (Recall, "recall"),
                (GetFrame, "get_frame"),
                (Forget, "forget"),
                (SetParameters, "set_parameters"),
                (GetParameters, "get_parameters"),
            )
        }
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for make in (self.ask, self.recall, self.other, self.look_for_unanswered):
            node.create_timer(period_s, make, clock=steady)

    def ask(self) -> None:
        """Ask a question; every fourth is cancelled."""
        goal = Ask.Goal(
            question=self._rng.choice(QUESTIONS), camera=self._rng.choice(("", "front"))
        )
        self._goal("ask", self._ask, goal, self._rng.random() < 0.25)

    def recall(self) -> None:
        """Search the memory."""
        request = Recall.Request(
            text=self._rng.choice(WORDS), mode=self._rng.choice(MODES), limit=10
        )
        request.order = self._rng.choice(("", "newest", "oldest"))
        if self._rng.random() < 0.2:
            request.near, request.radius = True, self._rng.choice((0.0, 3.0))
        if self._seen and self._rng.random() < 0.2:
            request.like_record = self._rng.choice(self._seen)

        def done(response: Any) -> tuple[bool, str]:
            if response.success:
                self._on_records(list(response.records))
                self._seen = [each.record_id for each in response.records if each.has_frame]
            return response.success, response.message

        self._call("recall", request, done)

    def other(self) -> None:
        """Start or cancel a watch, set a parameter, look at a picture, or count what to forget."""
        choice = self._rng.choice(("watch", "valid", "invalid", "get", "frame", "forget"))
        if choice == "watch":
            goal = Watch.Goal(watch_for="the door opens", camera=self._rng.choice(("", "rear")))
            goal.timeout_s = self._rng.uniform(*WATCH_S)
            self._goal("watch", self._watch, goal, self._rng.random() < 0.5)
        elif choice in ("valid", "invalid"):
            self._set(*self._rng.choice(VALID if choice == "valid" else INVALID), choice == "valid")
        elif choice == "get":
            self._call(
                "get_parameters",
                GetParameters.Request(names=["stream.rate_hz", "memory.path"]),
                lambda response: (len(response.values) == 2, ""),
            )
        elif choice == "frame":
            number = self._rng.choice([*self._seen, 0])
            self._call("get_frame", GetFrame.Request(record_id=number), _success)
        else:
            self._call("forget", Forget.Request(everything=True, dry_run=True), _success)

    def killed(self) -> None:
        """The node was killed, so what waits for it cannot be answered."""
        for pending in self._pending.values():
            self.counts[f"{pending.kind}: killed"] += 1
        self._pending.clear()

    @property
    def waiting(self) -> int:
        """Requests without an answer so far."""
        return len(self._pending)

    def look_for_unanswered(self, deadline_s: float = DEADLINE_S) -> None:
        """Give up what is older than `deadline_s`."""
        now = time.monotonic()
        for number, pending in list(self._pending.items()):
            if now - pending.sent > deadline_s:
                del self._pending[number]
                how = "accepted" if pending.accepted else "sent"
                self._give_up(pending, f"{how}, and no answer within {deadline_s:g} s")

    def _give_up(self, pending: Pending, why: str) -> None:
        self.counts[f"{pending.kind}: unanswered"] += 1
        what = f"{pending.kind} '{pending.what}' ({pending.phase}): {why}"
        self.unanswered.append(Unanswered(pending.sent, pending.accepted, what))

    def _begin(self, kind: str, what: str) -> int:
        number = next(self._number)
        self._pending[number] = Pending(kind, what, time.monotonic(), self.phase)
        return number

    def _end(self, number: int, success: bool, message: str) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:  # it counts as lost or killed already
            return
        if success or message:
            self.counts[f"{pending.kind}: {'answered' if success else 'refused'}"] += 1
        else:
            self._give_up(pending, "neither success nor a reason")

    def _call(self, name: str, request: Any, outcome: Callable[[Any], tuple[bool, str]]) -> None:
        client = self._client(request)
        if not (self.is_open and client.service_is_ready()):
            return
        number = self._begin(name, str(request)[:120])
        client.call_async(request).add_done_callback(
            lambda future: self._end(number, *outcome(future.result()))
        )

    def _client(self, request: Any) -> Any:
        return next(
            client for kind, client in self._services.items() if isinstance(request, kind.Request)
        )

    def _set(self, name: str, value: float | int | str | bool, valid: bool) -> None:
        def outcome(response: Any) -> tuple[bool, str]:
            result = response.results[0]
            if valid != result.successful:
                self.counts["set_parameters: wrong"] += 1
                self.wrong.append(f"{name} = {value!r}: successful is {result.successful}")
            return result.successful, result.reason

        request = SetParameters.Request(parameters=[Parameter(name=name, value=_value(value))])
        self._call("set_parameters", request, outcome)

    def _goal(self, kind: str, client: ActionClient, goal: Any, cancel: bool) -> None:
        if not (self.is_open and client.server_is_ready()):
            return
        number = self._begin(kind, str(goal)[:120])

        def accepted(future: Any) -> None:
            handle = future.result()
            if not handle.accepted:
                self._end(number, False, "the goal was not accepted")
                return
            if number in self._pending:
                self._pending[number].accepted = True
            handle.get_result_async().add_done_callback(ended)
            if cancel:
                handle.cancel_goal_async()

        def ended(future: Any) -> None:
            wrapped = future.result()
            result, status = wrapped.result, wrapped.status
            # An answer that is not known has other words in the result than in the file.
            if kind == "ask" and result.known and result.answered_by == "model":
                self._on_answer(result.answer.query_id, result.answer.text)
            cancelled = status == GoalStatus.STATUS_CANCELED
            self._end(number, result.success or cancelled, result.message)

        client.send_goal_async(goal).add_done_callback(accepted)


def _success(response: Any) -> tuple[bool, str]:
    return response.success, response.message


def _value(value: float | int | str | bool) -> ParameterValue:
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
