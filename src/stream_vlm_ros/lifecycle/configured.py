"""What the node holds from configure to cleanup: memory, model, speech and the services that answer
from them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from rclpy.node import Node

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecaller
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.summaries.by_model import ModelSummarizer, summary_writer
from stream_vlm.memory.summaries.newest import NewestSummaries
from stream_vlm.model_protocol import Model
from stream_vlm.text_models.sentence_embedder import load_text_model
from stream_vlm.types import StepResult, StreamError
from stream_vlm_ros.lifecycle.publishers import Outputs
from stream_vlm_ros.requests.answer_result import AnswerGrader
from stream_vlm_ros.requests.ask_action import AskServer
from stream_vlm_ros.requests.memory_services import MemoryServices
from stream_vlm_ros.requests.picture_query import PictureQuery
from stream_vlm_ros.requests.question import Question
from stream_vlm_ros.requests.recall_thread import RecallThread
from stream_vlm_ros.requests.request_queue import RequestQueue
from stream_vlm_ros.requests.watch_action import WatchServer
from stream_vlm_ros.requests.watch_registry import WatchRegistry


class DeviceModel(Model, Protocol):
    """A model that says where and how it runs, and what would lighten its work."""

    @property
    def device(self) -> str: ...

    @property
    def takes_any_size(self) -> bool:
        """Whether it looks at smaller pictures with less work; False for one fixed picture size."""
        ...

    @property
    def engine(self) -> str: ...


ModelLoader = Callable[[Settings], DeviceModel]
"""Loads the model that the settings name; raises StreamError when it cannot."""


class Configured:
    """Memory first, because it is quick to refuse; then the model.

    What was opened is closed again when a later part fails.
    """

    def __init__(
        self, node: Node, settings: Settings, load: ModelLoader, session_id: Callable[[], str]
    ) -> None:
        """Open the memory and load the model.

        Raises:
            StreamError: the memory or the model cannot be used.
        """
        self.settings = settings
        self.questions: RequestQueue[Question] | None = None
        """The queue to the model while the node is active."""
        self.watches: WatchRegistry | None = None
        """What the model waits for, likewise."""
        self.picture_queries: RequestQueue[PictureQuery] | None = None
        """Pictures for it to look at between its steps, likewise."""
        with ExitStack() as stack:
            self.memory = stack.enter_context(Memory.open(settings.memory))
            self.memory.use_embedder(load_text_model(settings.memory))
            self.model = load(settings)
            jobs, summarizes = self.memory.summary_jobs, summary_writer(settings.memory, self.model)
            self.summaries = (
                ModelSummarizer(jobs, summarizes, self.model.model_id)
                if jobs is not None and summarizes is not None
                else None
            )
            """What the model writes while the node is active."""
            self.outputs = Outputs(node)
            stack.callback(self.outputs.destroy)
            self.newest_summaries = NewestSummaries(self.memory)
            self.newest_summaries.refresh()
            self.writer = MemoryWriter(self.memory, self._tell_stored, self._tell_unstored)
            stack.callback(self.writer.close)
            services = MemoryServices(node, self.memory, self.writer, lambda: self.picture_queries)
            stack.callback(services.destroy)
            recaller = PromptRecaller(self.memory, settings)
            recalls = RecallThread(recaller)
            ask = AskServer(
                node,
                recalls.requests,
                recaller,
                AnswerGrader(settings, self.model),
                lambda: self.questions,
                session_id,
                self.outputs.say,
            )
            stack.callback(ask.destroy)
            watch = WatchServer(node, recalls.requests, recaller, lambda: self.watches, session_id)
            stack.callback(watch.destroy)
            recalls.start()
            # Before the servers go, so that whoever waits hears that no answer will come.
            stack.callback(
                recalls.stop,
                "the node was cleaned up before the memory could be asked; configure it and ask"
                " again",
            )
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Store what waits and free everything."""
        self._stack.close()

    def _tell(self, result: StepResult) -> None:
        self.outputs.publish(result)
        questions, watches = self.questions, self.watches
        for utterance in result.utterances:
            question = questions.finish(utterance.query_id) if questions is not None else None
            if question is not None:
                question.on_answer(utterance)
            if watches is not None:
                watches.report(utterance)

    def _tell_stored(self, result: StepResult) -> None:
        self._tell(result)
        # Here, on the writer's thread and after everything was said: the model's thread never waits
        # for a disk.
        self.newest_summaries.refresh_when_due()

    def _tell_unstored(self, result: StepResult, error: StreamError) -> None:
        """The robot still speaks when its memory fails; the diagnostics show `error` for as long as
        it lasts.
        """
        self._tell(result)
