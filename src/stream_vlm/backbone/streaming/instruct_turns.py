"""The turns of an instruct model: a question is answered, each instruction is judged on its own.

The judge's question stands in a fork of the context, beside the forks of the other instructions. It
sees the context and itself only, and its slots are free again when its words are written. So the
context holds nothing but video, questions and what was really said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward, Entry
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming.utterance_decoder import UtteranceDecoder
from stream_vlm.backbone.tokens.state_decision import (
    ASKED,
    NotFinite,
    decide_state,
    yes_probability,
)
from stream_vlm.context.instructions import verify_prompt
from stream_vlm.context.segments import tokens_in
from stream_vlm.model_protocol import SILENT, Judgement, Turn
from stream_vlm.types import Decision, State


@dataclass(frozen=True)
class Speech:
    """An utterance that is being written.

    Attributes:
        index: index of its turn in the step.
        forward: the context to which its words are appended.
        utterance: chooses the words.
    """

    index: int
    forward: CachedForward
    utterance: UtteranceDecoder


@dataclass(frozen=True)
class Suffix:
    """A question of ours at the end of a fork of a stream's context.

    Attributes:
        index: index of the turn in the step.
        judgement: the instruction that it is about.
        entry: its tokens, and the fork that gets them.
    """

    index: int
    judgement: Judgement
    entry: Entry


Feed = Callable[[Sequence[Entry]], torch.Tensor]
Decode = Callable[[Sequence[Speech], Sequence[torch.Tensor]], list[Speech]]


class InstructTurns:
    """The turns of one step of an instruct model.

    Args:
        parts: what the streams share.
        streams: the stream of each turn.
        turns: the turns of the step.
        feed: runs one forward pass and returns logits, float32, (entries, vocabulary).
        decode: writes utterances together, given the logits before their first words, and returns
            those that were finished.
        fail: called with the index of a turn whose logits are not finite.

    Attributes:
        answers: the decision of each turn that ended, by index: the answer to its question, else
            silence.
        judged: the decisions about the instructions of each turn, by index and instruction id.
        decode_s: wall time in which words were written, seconds.
    """

    def __init__(
        self,
        parts: EngineParts,
        streams: Sequence[CachedStream],
        turns: Sequence[Turn],
        feed: Feed,
        decode: Decode,
        fail: Callable[[int], None],
    ) -> None:
        self._parts, self._streams, self._turns = parts, streams, turns
        self._feed, self._decode, self._fail = feed, decode, fail
        self._alive: set[int] = set()
        self.answers: dict[int, Decision] = {}
        self.judged: dict[int, dict[str, Decision]] = {}
        self.decode_s = 0.0

    def run(self, entries: Mapping[int, Entry]) -> None:
        """Run the turns.

        The questions about the first instructions are in the forward pass of the pictures. Where a
        camera has more instructions than fit side by side, each further group takes one more
        forward pass.

        Args:
            entries: the input of each turn, by index.
        """
        self._alive = set(entries)
        groups = self._groups(
            [
                (index, judgement, self._streams[index].judge_prompt(judgement))
                for index in entries
                if self._turns[index].query is None
                for judgement in self._turns[index].judgements
            ]
        )
        first = self._open(groups[0]) if groups else []
        owners: list[int | Suffix] = []
        for index in entries:
            owners += [index, *(suffix for suffix in first if suffix.index == index)]
        rows = self._feed(
            [entries[owner] if isinstance(owner, int) else owner.entry for owner in owners]
        )
        answering = self._check_turns(owners, rows, entries)
        self._judge(
            [
                (owner, row)
                for owner, row in zip(owners, rows, strict=True)
                if isinstance(owner, Suffix)
            ],
            answering,
        )
        for group in groups[1:]:
            suffixes = self._open(group)
            if suffixes:
                rows = self._feed([suffix.entry for suffix in suffixes])
                self._judge(list(zip(suffixes, rows, strict=True)), [])
        self._verify()
        self._end_turns()

    def _check_turns(
        self, owners: Sequence[int | Suffix], rows: torch.Tensor, entries: Mapping[int, Entry]
    ) -> list[tuple[Speech, torch.Tensor]]:
        """Check the logits at the end of each turn; begin the answers to questions."""
        answering = []
        for index, row in zip(owners, rows, strict=True):
            if not isinstance(index, int):
                continue
            stream, turn = self._streams[index], self._turns[index]
            if not bool(torch.isfinite(row).all()):
                self._give_up(index)
            elif turn.query is not None:
                decision = turn.gate(ASKED)
                if decision.state is State.RESPONSE:
                    answer = stream.start_answer(turn)
                    answering.append((Speech(index, entries[index].forward, answer), row))
                else:
                    stream.end_reply([])
                    self.answers[index] = decision
        return answering

    def _judge(
        self,
        suffixes: Sequence[tuple[Suffix, torch.Tensor]],
        answering: Sequence[tuple[Speech, torch.Tensor]],
    ) -> None:
        """Decide about a group of instructions and write its words, and free their slots.

        Args:
            suffixes: the questions, each with the logits after it.
            answering: answers that are written in the same forward passes.
        """
        speeches = list(answering)
        reports: list[tuple[Suffix, Speech]] = []
        for suffix, row in suffixes:
            if suffix.index not in self._alive:
                continue
            try:
                decided = decide_state(row, self._parts.tokens)
            except NotFinite:
                self._give_up(suffix.index)
                continue
            decision = suffix.judgement.gate(decided)
            self._note(suffix, decision)
            if decision.state is State.RESPONSE:
                utterance = self._streams[suffix.index].start_report(
                    decision, self._turns[suffix.index]
                )
                speech = Speech(suffix.index, suffix.entry.forward, utterance)
                speeches.append((speech, row))
                reports.append((suffix, speech))
            else:
                suffix.entry.forward.clear()
        speeches = [pair for pair in speeches if pair[0].index in self._alive]
        if not speeches:
            return
        started = time.perf_counter()
        written = self._decode([speech for speech, _ in speeches], [row for _, row in speeches])
        self.decode_s += time.perf_counter() - started
        ended = {id(speech) for speech in written}
        for speech, _ in speeches:
            if id(speech) not in ended:
                self._alive.discard(speech.index)
        for speech, _ in answering:
            if speech.index in self._alive:
                self.answers[speech.index] = speech.utterance.outcome()
                self._streams[speech.index].end_reply(speech.utterance.unfed)
        for suffix, speech in reports:
            if suffix.index in self._alive:
                self._note(suffix, speech.utterance.outcome())
                suffix.entry.forward.clear()

    def _verify(self) -> None:
        """Ask about each report that needs a second look whether it is true."""
        reports = [
            (index, judgement, verify_prompt(self._parts.plain(decision.text)))
            for index, decisions in self.judged.items()
            for judgement in self._turns[index].judgements
            if judgement.verify
            and (decision := decisions[judgement.instruction.instruction_id]).text
        ]
        for group in self._groups(reports):
            suffixes = self._open(group)
            if not suffixes:
                continue
            for suffix, row in zip(
                suffixes, self._feed([suffix.entry for suffix in suffixes]), strict=True
            ):
                if suffix.index not in self._alive:
                    continue
                try:
                    share = yes_probability(row, self._parts.tokens)
                except NotFinite:
                    self._give_up(suffix.index)
                    continue
                spoken = self.judged[suffix.index][suffix.judgement.instruction.instruction_id]
                self._note(suffix, replace(spoken, verified=share))
                suffix.entry.forward.clear()

    def _end_turns(self) -> None:
        """End the turns that are not ended yet; what was said stays in the context."""
        for index in sorted(self._alive - set(self.answers)):
            decisions = self.judged.get(index, {})
            self._streams[index].end_silent_turn(
                [
                    decision.text
                    for judgement in self._turns[index].judgements
                    if (decision := decisions.get(judgement.instruction.instruction_id)) is not None
                    and self._is_said(judgement, decision)
                ]
            )
            self.answers[index] = SILENT

    def _is_said(self, judgement: Judgement, decision: Decision) -> bool:
        """Whether the words of `decision` are new and not found wrong by a second look."""
        least = self._parts.settings.decision.verify_threshold
        return (
            bool(decision.text)
            and decision.text != judgement.reported
            and (decision.verified is None or decision.verified >= least)
        )

    def _groups(
        self, asked: Sequence[tuple[int, Judgement, str]]
    ) -> list[list[tuple[int, Judgement, str]]]:
        """Split the questions into groups that have room side by side in the caches.

        Args:
            asked: index of the turn, instruction and words of each question.
        """
        groups: list[list[tuple[int, Judgement, str]]] = []
        place: dict[int, int] = {}
        used: dict[int, list[int]] = {}
        longest = self._parts.settings.decision.max_new_tokens
        for question in asked:
            index, _, prompt = question
            plan = self._streams[index].plan
            needed = tokens_in(self._parts.writer.suffix(0, prompt)) + longest
            needed += self._parts.tokens.longest_marker
            held = used.setdefault(index, [])
            if held and (
                len(held) == plan.branches or sum(held) + needed > plan.branches * plan.suffix
            ):
                held.clear()
                place[index] = place.get(index, 0) + 1
            held.append(needed)
            at = place.setdefault(index, 0)
            while len(groups) <= at:
                groups.append([])
            groups[at].append(question)
        return groups

    def _open(self, group: Sequence[tuple[int, Judgement, str]]) -> list[Suffix]:
        return [
            Suffix(index, judgement, self._streams[index].suffix(prompt))
            for index, judgement, prompt in group
            if index in self._alive
        ]

    def _note(self, suffix: Suffix, decision: Decision) -> None:
        decisions = self.judged.setdefault(suffix.index, {})
        decisions[suffix.judgement.instruction.instruction_id] = decision

    def _give_up(self, index: int) -> None:
        self._alive.discard(index)
        self._fail(index)
