"""Makes the result of `~/ask`: the answer, its evidence, and whether the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall
from stream_vlm.model_protocol import Model
from stream_vlm.types import Utterance
from stream_vlm_ros.action import Ask
from stream_vlm_ros.common.conversions import record_message, utterance_message

MAX_EVIDENCE = 5
"""How many records come with an answer at most."""


def from_memory(recalled: PromptRecall, now_ns: int, session_id: str) -> Ask.Result:
    """The memory's answer to a question about the past.

    Args:
        recalled: the records found, and the answer computed from them. Without an answer, the
            result says that the memory does not know.
        now_ns: when the question was asked, ns.
        session_id: the present session, for an answer without a record.
    """
    known = recalled.is_known
    answer = recalled.answer
    records = (
        answer.records
        if answer is not None and known
        else recalled.records[:MAX_EVIDENCE]
        if recalled.has_match
        else ()
    )
    best = records[0] if known and records else None
    utterance = Utterance(
        camera=best.camera if best else "",
        frame_id=best.frame_id if best else "",
        stamp_ns=best.stamp_ns if best else now_ns,
        text=recalled.sentence(now_ns),
        confidence=best.confidence if best else float(known),
        answered_by=Ask.Result.MEMORY,
    )
    return Ask.Result(
        answer=utterance_message(utterance, best.session_id if best else session_id),
        answered_by=Ask.Result.MEMORY,
        known=known,
        evidence=[record_message(record) for record in records],
    )


def from_delegate(utterance: Utterance, without: Ask.Result, session_id: str) -> Ask.Result:
    """The delegate's answer, with the evidence of `without`, the result that was not known."""
    return Ask.Result(
        answer=utterance_message(utterance, session_id),
        answered_by=Ask.Result.DELEGATE,
        known=True,
        evidence=without.evidence,
    )


@dataclass(frozen=True)
class AnswerGrader:
    """Decides whether an answer of the model counts as known."""

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
        self, utterance: Utterance, question: str, recalled: PromptRecall, session_id: str
    ) -> Ask.Result:
        """The model's answer.

        The answer is known if the model has tokens for all words of the question, and if its
        confidence is high enough or it has read matching records.
        """
        unknown_words = self.model.unknown_words(question)
        known = not unknown_words and (
            utterance.confidence >= self.settings.decision.min_answer_confidence
            or (self.model_reads and recalled.has_match)
        )
        if not known:
            # The confidence does not show whether a model with a small vocabulary understood.
            why = f": the model has no word for '{unknown_words[0]}'" if unknown_words else ""
            utterance = replace(
                utterance,
                text=(
                    f"I do not know{why}; the model's guess"
                    f" (confidence {utterance.confidence:.2f}): '{utterance.text}'"
                ),
            )
        return Ask.Result(
            answer=utterance_message(utterance, session_id),
            answered_by=Ask.Result.MODEL,
            known=known,
            evidence=[record_message(record) for record in recalled.records[:MAX_EVIDENCE]],
            note=self._note() if recalled.records else "",
        )

    def _note(self) -> str:
        """Say why the model was asked without the records; empty if it was asked with them."""
        if self.settings.memory.in_prompt != "recall":
            return (
                f"the model was asked without these records, because memory.in_prompt is"
                f" {self.settings.memory.in_prompt}"
            )
        if not self.model.reads_memory:
            return (
                f"the model was asked without these records, because {self.model.model_id} cannot"
                " read records of the memory"
            )
        return ""
