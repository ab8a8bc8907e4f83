"""What an answer rests on, and whether it is known: by the memory's records or by the model's own
confidence.
"""

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
"""Remembered records that go with an answer of the model, at most."""


def from_memory(recalled: PromptRecall, now_ns: int, session_id: str) -> Ask.Result:
    """What the memory says to a question about the past asked at `now_ns` (ns): the computed
    answer, or that it does not know.
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
class Judge:
    """Judges what the model answered."""

    settings: Settings
    model: Model

    @property
    def cameras(self) -> Sequence[str]:
        """Whose pictures can be asked about."""
        return self.settings.cameras

    @property
    def model_reads(self) -> bool:
        """Whether what is remembered about a question reaches the model."""
        return self.model.reads_memory and self.settings.memory.in_prompt == "recall"

    def from_model(
        self, said: Utterance, question: str, recalled: PromptRecall, session_id: str
    ) -> Ask.Result:
        """The model's answer.

        It is known where the model has every word of the question, and was sure or read something
        remembered about it.
        """
        strange = self.model.unknown_words(question)
        known = not strange and (
            said.confidence >= self.settings.decision.min_answer_confidence
            or (self.model_reads and recalled.has_match)
        )
        if not known:
            # A model of few words is as sure of itself when it did not understand.
            why = f": the model has no word for '{strange[0]}'" if strange else ""
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
        """Why the model was asked without what is remembered; empty where it was asked with it."""
        if self.settings.memory.in_prompt != "recall":
            return (
                f"memory.in_prompt is {self.settings.memory.in_prompt}: the model was asked without"
                " the evidence"
            )
        if not self.model.reads_memory:
            return (
                f"{self.model.model_id} was not made to read what is remembered: it was asked"
                " without the evidence"
            )
        return ""
