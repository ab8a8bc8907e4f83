"""The result of `~/ask`: the answer, its evidence, and whether it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall
from stream_vlm.model_protocol import Model
from stream_vlm.types import Utterance
from stream_vlm_ros.action import Ask
from stream_vlm_ros.common.conversions import record_message, utterance_message

EVIDENCE = 5
"""Records of the memory that go with an answer, at most."""


def from_memory(recalled: PromptRecall, now_ns: int, session_id: str) -> Ask.Result:
    """The memory's answer to a question about the past, asked at `now_ns` (ns).

    It is the answer that was computed from the records; where there is none, it says that the
    memory does not know.
    """
    known = recalled.is_known
    answer = recalled.answer
    records = (
        answer.records
        if answer is not None and known
        else recalled.records[:EVIDENCE]
        if recalled.has_match
        else ()
    )
    best = records[0] if known and records else None
    said = Utterance(
        camera=best.camera if best else "",
        frame_id=best.frame_id if best else "",
        stamp_ns=best.stamp_ns if best else now_ns,
        text=recalled.sentence(now_ns),
        confidence=best.confidence if best else float(known),
    )
    return Ask.Result(
        answer=utterance_message(said, best.session_id if best else session_id),
        answered_by=Ask.Result.MEMORY,
        known=known,
        evidence=[record_message(record) for record in records],
    )


@dataclass(frozen=True)
class AnswerGrader:
    """Decides whether an answer of the model is known."""

    settings: Settings
    model: Model

    @property
    def cameras(self) -> Sequence[str]:
        """The cameras that can be asked about."""
        return self.settings.cameras

    @property
    def model_reads(self) -> bool:
        """Whether the model reads what the memory knows about a question."""
        return self.model.reads_memory and self.settings.memory.in_prompt == "recall"

    def from_model(
        self, said: Utterance, question: str, recalled: PromptRecall, session_id: str
    ) -> Ask.Result:
        """The model's answer.

        It is known if the model has a token for every word of the question, and either is confident
        enough or has read records about it.
        """
        unknown_words = self.model.unknown_words(question)
        known = not unknown_words and (
            said.confidence >= self.settings.decision.min_answer_confidence
            or (self.model_reads and recalled.has_match)
        )
        if not known:
            # A model with a small vocabulary is as confident when it did not understand.
            why = f": the model has no word for '{unknown_words[0]}'" if unknown_words else ""
            said = replace(
                said,
                text=(
                    f"I do not know{why}; its guess, of confidence {said.confidence:.2f}:"
                    f" '{said.text}'"
                ),
            )
        return Ask.Result(
            answer=utterance_message(said, session_id),
            answered_by=Ask.Result.MODEL,
            known=known,
            evidence=[record_message(record) for record in recalled.records[:EVIDENCE]],
            note=self._note() if recalled.records else "",
        )

    def _note(self) -> str:
        """Why the model was asked without the evidence; empty where it was asked with it."""
        if self.settings.memory.in_prompt != "recall":
            return (
                f"memory.in_prompt is {self.settings.memory.in_prompt}: the model was asked without"
                " the evidence"
            )
        if not self.model.reads_memory:
            return (
                f"{self.model.model_id} cannot read records of the memory: it was asked without the"
                " evidence"
            )
        return ""
