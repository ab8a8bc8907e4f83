"""A server as a model: each camera has a chat that grows, and its instructions are judged there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from stream_vlm.backbone.remote.exchanges import run_side_by_side
from stream_vlm.backbone.remote.http_transport import KEY, HttpTransport
from stream_vlm.backbone.remote.server import Server, is_passing
from stream_vlm.backbone.remote.stream import RemoteStream, RunningTurn, own_time_marker
from stream_vlm.backbone.remote.text_writer import RemotePictureWriter, RemoteTextWriter
from stream_vlm.backbone.remote.transport import Transport
from stream_vlm.backbone.untuned_model import UntunedModel
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Outcome, Turn, Upcoming
from stream_vlm.types import Decision, StreamError


class RemoteModel(UntunedModel):
    """A model behind an endpoint of the OpenAI chat protocol.

    Attributes:
        settings: all settings of the program.
        server: the server, shared by all cameras.
        seconds: wall time of the last step by stage, seconds.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        """Probe the server; if it is away, the streams have faults until it comes.

        Raises:
            ServerFault: the server lacks what a stream needs, or refuses access.
            SettingError: `model.turn_pieces` names a piece that the server writes.
        """
        own_time_marker(settings.model)
        settings.stream.take_own_rate(self.rate_hz)
        self.settings = settings
        # Two more for the summary and the caption that are written between the steps.
        side_by_side = settings.decision.branches * len(settings.cameras) + 2
        self.server = Server(transport, settings.model.name, side_by_side)
        self.server.start()
        self.seconds: Mapping[str, float] = {}

    @property
    def model_id(self) -> str:
        """Name of the model and address of the server; a server tells no digest."""
        known = self.server.last_abilities
        name = known.model if known is not None else self.settings.model.name
        return f"{name or 'unknown'} at {self.server.transport.address}"

    @property
    def device(self) -> str:
        """That it runs elsewhere."""
        return "server"

    @property
    def takes_any_size(self) -> bool:
        """True: smaller pictures cost less."""
        return True

    @property
    def engine(self) -> str:
        """A description of the server, for people."""
        known = self.server.last_abilities
        return f"server: {', '.join(known.sentences) if known is not None else self.server.fault}"

    @property
    def fault(self) -> str:
        """Why the server is not asked now, or empty; see `model_protocol.ReportsHealth`."""
        return self.server.fault

    @property
    def figures(self) -> Mapping[str, object]:
        """Counts and times of requests; see `model_protocol.ReportsHealth`."""
        return self.server.figures

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """None: the tokenizers of these models have tokens for every word."""
        return ()

    def open_stream(self, camera: str) -> RemoteStream:
        """A new stream for `camera`, with an empty context."""
        return RemoteStream(self.settings, camera)

    def text_writer(self, task: str, most_read: int, most_written: int) -> RemoteTextWriter:
        """A writer for one instruction; see `model_protocol.WritesTexts.text_writer`."""
        return RemoteTextWriter(self.server, task, most_read, most_written)

    def picture_writer(self, task: str, most_written: int) -> RemotePictureWriter:
        """A writer about pictures; see `model_protocol.DescribesPictures.picture_writer`."""
        return RemotePictureWriter(self.server, task, most_written)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Run one step; the requests of all cameras and instructions run side by side.

        `upcoming` is never called. The step ends within `model.timeout_s`; while the server is left
        alone after a fault, it ends at once.
        """
        started = time.monotonic()
        self.seconds = {}
        try:
            abilities = self.server.abilities
        except StreamError as fault:
            self.server.dropped(len(turns))
            return [fault for _ in turns]
        until = started + self.settings.model.timeout_s
        running: list[RunningTurn | StreamError] = []
        for turn in turns:
            assert isinstance(turn.stream, RemoteStream), "streams are opened by their model"
            try:
                running.append(turn.stream.begin(turn, abilities))
            except StreamError as error:
                running.append(error)
        exchanges = [
            exchange
            for one in running
            if isinstance(one, RunningTurn)
            for exchange in one.exchanges
        ]
        results = run_side_by_side(exchanges, self.server.submit, until)
        outcomes = _shared_out(running, results)
        self._take_in(outcomes, asked=bool(exchanges))
        self.seconds = {"decode": time.monotonic() - started}
        return outcomes

    def _take_in(self, outcomes: Sequence[Outcome | StreamError], *, asked: bool) -> None:
        """Count what was lost, and leave the server alone where it did not answer."""
        faults = [outcome for outcome in outcomes if isinstance(outcome, StreamError)]
        self.server.dropped(len(faults))
        passing = [fault for fault in faults if is_passing(fault)]
        if passing:
            self.server.leave_alone(passing[0])
        elif asked and not faults:
            self.server.answered()


def load_remote_model(settings: Settings) -> RemoteModel:
    """The model of the server at `model.url`.

    Raises:
        ServerFault: the server lacks what a stream needs, or refuses access.
        ChatUnavailable: httpx is not installed.
    """
    return RemoteModel(settings, HttpTransport(settings.model.url, os.environ.get(KEY, "")))


def _shared_out(
    running: Sequence[RunningTurn | StreamError], results: Sequence[Decision | StreamError]
) -> list[Outcome | StreamError]:
    """Give every turn the results of its exchanges."""
    left = iter(results)
    return [
        one if isinstance(one, StreamError) else one.end([next(left) for _ in one.exchanges])
        for one in running
    ]
