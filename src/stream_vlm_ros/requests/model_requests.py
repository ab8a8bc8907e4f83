"""The requests to the model: questions, watches and picture queries."""

from __future__ import annotations

from collections.abc import Sequence

from stream_vlm.types import Query, StepResult
from stream_vlm_ros.requests.picture_query import picture_query_queue
from stream_vlm_ros.requests.question import begin_questions, question_queue
from stream_vlm_ros.requests.watch_registry import WatchRegistry


class ModelRequests:
    """The requests to the model, from configure to cleanup; refused while the node is not active.

    ROS callbacks put requests. The model thread calls `begin` and `end_unanswered`. The writer
    thread calls `answer`.
    """

    def __init__(self, cameras: Sequence[str], inactive: str) -> None:
        """Make empty queues, which refuse requests until `open` is called.

        Args:
            cameras: the cameras that can be asked about.
            inactive: says why requests are refused while the node is not active, and what to do.
        """
        self._inactive = inactive
        self.questions = question_queue(inactive)
        self.watches = WatchRegistry(cameras, inactive)
        self.pictures = picture_query_queue(f"{inactive}; like_record needs no model")
        self.changed = False
        """Whether a question or a watch waits, is active or has just ended."""
        self.questions.listen(self._note_change)
        self.watches.listen(self._note_change)

    def open(self) -> None:
        """Accept requests from now on."""
        self.questions.open()
        self.watches.open()
        self.pictures.open()

    def close(self) -> None:
        """End every request with the reason, and refuse later ones."""
        self.questions.close(
            "the node was deactivated before the answer came; activate it and ask again",
            self._inactive,
        )
        self.pictures.close(
            "the node was deactivated, so its model processes no picture; activate it, or ask with"
            " like_record",
            f"{self._inactive}; like_record needs no model",
        )
        self.watches.close("the node was deactivated; activate it and watch again", self._inactive)

    def begin(self, cameras: Sequence[str]) -> tuple[tuple[Query, ...], tuple[str, ...]]:
        """Begin the requests of `cameras`, which have a frame now.

        Returns:
            The queries, and the query ids of ended watches that the model may still follow.
        """
        self.changed = False
        watches, ended = self.watches.take_changes(cameras)
        queries = (*watches, *begin_questions(self.questions, cameras))
        # Some requests may wait for a frame of another camera, so check again at the next step.
        # Never set to False here: a request that came in meanwhile has set it to True.
        if len(self.questions) or len(self.watches):
            self.changed = True
        return queries, ended

    def report_partial(self, query_id: str, text: str) -> None:
        """Give the caller of a question the answer so far."""
        question = self.questions.find(query_id)
        if question is not None:
            question.on_text(text)

    def end_unanswered(self, result: StepResult, watching: frozenset[str]) -> frozenset[str]:
        """End the watches that the model refused, and fail the questions without an answer.

        Args:
            result: the result of the step that had the queries.
            watching: query ids of the watches that the model follows after the step.

        Returns:
            The cameras whose faults the caller of a watch got.
        """
        reported = self.watches.end_refused(watching, result.faults)
        spoken = {utterance.query_id for utterance in result.utterances}
        for query in result.tick.queries:
            if not query.is_watch and query.query_id not in spoken:
                self.questions.fail(
                    query.query_id,
                    result.faults.get(
                        query.camera, "the model gave an empty answer; ask in other words"
                    ),
                )
        return reported

    def answer(self, result: StepResult) -> None:
        """Give the utterances of a stored step to the callers of their requests."""
        for utterance in result.utterances:
            if utterance.query_id:
                question = self.questions.finish(utterance.query_id)
                if question is not None:
                    question.on_answer(utterance)
                self.watches.report(utterance)

    def _note_change(self) -> None:
        self.changed = True
