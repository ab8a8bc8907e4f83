"""The parts of a configured node: pipeline, publishers, services and actions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

from rclpy.node import Node

from stream_vlm.config.settings import Settings
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.model_protocol import DeviceModel
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import StepResult, StreamError
from stream_vlm_ros.common.process_end import CLOSE_S, STORE_S, ProcessEnd
from stream_vlm_ros.lifecycle.publishers import Publishers
from stream_vlm_ros.requests.answer_result import AnswerGrader
from stream_vlm_ros.requests.ask_action import AskServer
from stream_vlm_ros.requests.memory_services import MemoryServices
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.question import inactive
from stream_vlm_ros.requests.recall_thread import RecallThread
from stream_vlm_ros.requests.watch_action import WatchServer

FLUSH_S = 10.0
"""Longest wait for steps to be stored and published, seconds, while the process does not end."""

ModelLoader = Callable[[Settings], DeviceModel]
"""Loads the model of the settings; raises StreamError if it cannot be loaded."""


class ConfiguredParts:
    """The parts that exist from configure to cleanup; `close` frees them."""

    def __init__(self, node: Node, settings: Settings, load: ModelLoader, end: ProcessEnd) -> None:
        """Open the memory and load the model. If a later part fails, the earlier ones are closed.

        Raises:
            ProcessEnds: the process ended while the model was loaded.
            StreamError: the memory or the model cannot be used.
        """
        self.settings = settings
        self.end = end
        self.requests = ModelRequests(settings.cameras, inactive(node))
        with ExitStack() as stack:
            self.publishers = Publishers(node, settings.output.depth)
            stack.callback(self.publishers.destroy)
            self.pipeline = Pipeline(
                settings,
                load=load,
                on_result=self._publish,
                run_long=lambda load_all: end.run("loading the model", load_all),
            )
            stack.callback(self._close_pipeline)
            self.model = cast(DeviceModel, self.pipeline.model)
            self.writer = cast(MemoryWriter, self.pipeline.writer)
            self.recalls = RecallThread(self.pipeline.recaller, end=end)
            for server in (
                MemoryServices(node, self.pipeline, self.requests.pictures),
                AskServer(
                    node,
                    self.pipeline,
                    self.recalls.requests,
                    AnswerGrader(settings, self.model),
                    self.requests.questions,
                    self.publishers.publish_utterance,
                ),
                WatchServer(node, self.pipeline, self.recalls.requests, self.requests.watches),
            ):
                stack.callback(server.destroy)
            self.recalls.start()
            # This runs before the servers are destroyed, so that waiting callers get a result.
            stack.callback(
                self.recalls.stop,
                "the node was cleaned up before the memory could be asked; configure it and ask"
                " again",
            )
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Store the results that wait, and free everything."""
        self._stack.close()

    def _close_pipeline(self) -> None:
        self.end.wait(self.pipeline.flush, FLUSH_S, STORE_S)
        # What could be stored by now is stored, so this waits no longer for it.
        self.end.finish("closing the memory", lambda: self.pipeline.close(0.0), CLOSE_S)

    def _publish(self, result: StepResult, error: StreamError | None) -> None:
        """Publish the result of a step.

        With an `error` the step is not stored yet, but it is published: the robot must still speak
        while its memory fails. /diagnostics shows the error.
        """
        self.publishers.publish(result)
        self.requests.answer(result)
