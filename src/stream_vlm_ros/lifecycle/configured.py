"""What the node holds from configure to cleanup: the pipeline, and the services that answer."""

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
from stream_vlm_ros.lifecycle.publishers import Outputs
from stream_vlm_ros.requests.answer_result import AnswerGrader
from stream_vlm_ros.requests.ask_action import AskServer
from stream_vlm_ros.requests.memory_services import MemoryServices
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.question import inactive
from stream_vlm_ros.requests.recall_thread import RecallThread
from stream_vlm_ros.requests.watch_action import WatchServer

ModelLoader = Callable[[Settings], DeviceModel]
"""Loads the model that the settings name; raises StreamError when it cannot."""


class ConfiguredParts:
    """The pipeline with its memory and model, the publishers, and the services and actions."""

    def __init__(self, node: Node, settings: Settings, load: ModelLoader) -> None:
        """Open the memory and load the model; what was opened is closed where a later part fails.

        Raises:
            StreamError: the memory or the model cannot be used.
        """
        self.settings = settings
        self.requests = ModelRequests(settings.cameras, inactive(node))
        with ExitStack() as stack:
            self.outputs = Outputs(node)
            stack.callback(self.outputs.destroy)
            self.pipeline = Pipeline(settings, load=load, on_result=self._publish)
            stack.callback(self.pipeline.close)
            self.model = cast(DeviceModel, self.pipeline.model)
            self.writer = cast(MemoryWriter, self.pipeline.writer)
            self.recalls = RecallThread(self.pipeline.recaller)
            for server in (
                MemoryServices(node, self.pipeline, self.requests.pictures),
                AskServer(
                    node,
                    self.pipeline,
                    self.recalls.requests,
                    AnswerGrader(settings, self.model),
                    self.requests.questions,
                    self.outputs.say,
                ),
                WatchServer(node, self.pipeline, self.recalls.requests, self.requests.watches),
            ):
                stack.callback(server.destroy)
            self.recalls.start()
            # Before the servers go, so that whoever waits hears that no answer will come.
            stack.callback(
                self.recalls.stop,
                "the node was cleaned up before the memory could be asked; configure it and ask"
                " again",
            )
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Store what waits and free everything."""
        self._stack.close()

    def _publish(self, result: StepResult, error: StreamError | None) -> None:
        """Publish a step once it is stored.

        With an `error` it is not stored yet, and published all the same: the robot speaks while its
        memory fails, and the diagnostics show the error for as long as it lasts.
        """
        self.outputs.publish(result)
        self.requests.answer(result)
