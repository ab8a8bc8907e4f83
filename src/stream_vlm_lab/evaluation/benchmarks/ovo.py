"""OVO-Bench (Li et al., CVPR 2025): its items, its answer files and its official offline score.

The official scorer counts a multiple choice answer as right if the right letter occurs anywhere in
the response, a count if all digits of the response joined are the count, and a yes or no if that
word occurs in the response or the response is only its initial. It averages tasks within a group
and then the three groups. It takes the right answer from the answer file itself. A response that
names every letter is therefore always right, and so is one whose file says so.

The strict score beside the official one needs exactly the one letter, number or word that the data
gives as the right answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_vlm_lab.evaluation.benchmarks.files import BenchmarkError, read_json

GROUPS = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
COUNTING = "REC"


@dataclass
class OvoScore:
    """Scores of answers.

    Attributes:
        tasks: for each task, one (official, strict) verdict for each test point.
        faults: every row that could not be used as it was: id, task and what was done about it.
        missing: for each task, the number of items without an answer.
    """

    tasks: dict[str, list[tuple[bool, bool]]] = field(default_factory=lambda: defaultdict(list))
    faults: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Percentages by task, by group and in total, as plain values; None without answers."""
        report: dict[str, Any] = {"faults": self.faults, "missing": self.missing}
        for name, place in (("official", 0), ("strict", 1)):
            tasks = {
                task: 100 * sum(point[place] for point in points) / len(points)
                for task, points in self.tasks.items()
            }
            groups = {
                group: _mean([tasks[task] for task in names if task in tasks])
                for group, names in GROUPS.items()
            }
            whole = list(groups.values())
            report[name] = {
                "tasks": tasks,
                "groups": groups,
                "total": (
                    None if None in whole else _mean([mean for mean in whole if mean is not None])
                ),
            }
        report["points"] = {task: len(points) for task, points in self.tasks.items()}
        return report


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def read_items(path: Path) -> dict[int, dict[str, Any]]:
    """Read the annotated items by id.

    Raises:
        BenchmarkError: the file is not a list of items with `id`, `task` and `video`.
    """
    items: dict[int, dict[str, Any]] = {}
    document = read_json(path)
    for row in document if isinstance(document, list) else [document]:
        if not _is_item(row):
            raise BenchmarkError(
                f"{path}: {str(row)[:80]} is not an OVO-Bench item; use the benchmark's"
                " ovo_bench_new.json"
            )
        items[row["id"]] = row
    return items


def _is_item(row: Any) -> bool:
    if (
        not isinstance(row, dict)
        or not {"id", "task", "video"} <= set(row)
        or row["task"] not in sum(GROUPS.values(), ())
    ):
        return False
    if row["task"] not in GROUPS["forward"]:
        return (
            isinstance(row.get("options"), list)
            and isinstance(row.get("gt"), int)
            and 0 <= row["gt"] < len(row["options"])
            and "realtime" in row
        )
    key = "count" if row["task"] == COUNTING else "type"
    points = row.get("test_info")
    return (
        isinstance(points, list)
        and bool(points)
        and all(isinstance(point, dict) and {"realtime", key} <= set(point) for point in points)
    )


def read_answers(path: Path) -> list[dict[str, Any]]:
    """Read the rows of an official answer file, or of all such files in a folder.

    Raises:
        BenchmarkError: there is no file, or one does not have the groups backward, realtime and
            forward.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise BenchmarkError(f"{path}: contains no .json file; give the answers' file or folder")
    rows: list[dict[str, Any]] = []
    for file in files:
        document = read_json(file)
        if not isinstance(document, dict) or not set(document) & set(GROUPS):
            raise BenchmarkError(
                f"{file}: is not an OVO-Bench answer file; it must contain {{'backward': [...],"
                " 'realtime': [...], 'forward': [...]}"
            )
        for group in GROUPS:
            if not isinstance(document.get(group, []), list):
                raise BenchmarkError(
                    f"{file}: {group} is not a list of answers; give an official answer file"
                )
            rows += document.get(group, [])
    return rows


def score_answers(
    items: Mapping[int, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> OvoScore:
    """Score answer rows; everything unusual about a row is recorded in `faults`."""
    score = OvoScore()
    answered: set[int] = set()
    for row in rows:
        row_id = row.get("id") if isinstance(row, Mapping) else None
        item = items.get(row_id) if isinstance(row_id, int) else None
        if item is None:
            score.faults.append(
                {
                    "id": row_id,
                    "task": None,
                    "fault": "no such item in the data",
                    "done": "ignored",
                }
            )
            continue
        if row_id in answered:
            score.faults.append(
                {
                    "id": row_id,
                    "task": item["task"],
                    "fault": "answered twice",
                    "done": "both count, as in the official scorer",
                }
            )
        answered.add(item["id"])
        for response, stated, truth, where in _points(item, row, score):
            text = _text(response, item, where, score)
            score.tasks[item["task"]].append(
                (
                    _is_right(item["task"], text, stated),
                    _is_strictly_right(item["task"], text, truth),
                )
            )
    for item in items.values():
        if item["id"] not in answered:
            score.missing[item["task"]] = score.missing.get(item["task"], 0) + 1
    return score


def _points(
    item: Mapping[str, Any], row: Mapping[str, Any], score: OvoScore
) -> Iterator[tuple[Any, str, str, str]]:
    """Yield each test point that `row` answers.

    Yields:
        The response, the right answer as the row states it, the right answer of the data, and a
        description of the point.
    """
    if "test_info" not in item:
        truth = chr(ord("A") + item["gt"])
        yield row.get("response"), _own(row.get("ground_truth"), truth, "", item, score), truth, ""
        return
    given = row.get("test_info")
    given = given if isinstance(given, list) else []
    if len(given) != len(item["test_info"]):
        fault = f"answers {len(given)} of {len(item['test_info'])} test points"
        score.faults.append(
            {
                "id": item["id"],
                "task": item["task"],
                "fault": fault,
                "done": "missing points count as wrong",
            }
        )
    for index, point in enumerate(item["test_info"]):
        answer = given[index] if index < len(given) and isinstance(given[index], Mapping) else {}
        truth, where = _truth(item["task"], point), f", point {index}"
        stated = _truth(item["task"], answer) if {"count", "type"} & set(answer) else None
        yield answer.get("response"), _own(stated, truth, where, item, score), truth, where


def _truth(task: str, point: Mapping[str, Any]) -> str:
    return str(point.get("count")) if task == COUNTING else ("Yes" if point.get("type") else "No")


def _own(stated: Any, truth: str, where: str, item: Mapping[str, Any], score: OvoScore) -> str:
    """The right answer as the row states it; the official scorer uses only this one."""
    if stated is None or stated == truth:
        return truth
    fault = f"states {stated} as the right answer, the data {truth}{where}"
    score.faults.append(
        {
            "id": item["id"],
            "task": item["task"],
            "fault": fault,
            "done": "the official score uses the row's answer, the strict score the data's",
        }
    )
    return str(stated)


def _text(response: Any, item: Mapping[str, Any], where: str, score: OvoScore) -> str | None:
    if isinstance(response, str):
        return response
    if isinstance(response, list) and len(response) == 1 and isinstance(response[0], str):
        fault, done, text = (
            "the response is a list of one string",
            "read as that string",
            response[0],
        )
    else:
        fault = (
            "no response"
            if response is None
            else f"the response is {type(response).__name__} {str(response)[:40]}, not a string"
        )
        done, text = "counts as wrong", None
    score.faults.append(
        {"id": item["id"], "task": item["task"], "fault": fault + where, "done": done}
    )
    return text


def _is_right(task: str, response: str | None, truth: str) -> bool:
    """Whether the official scorer counts `response` as right."""
    if response is None:
        return False
    if task == COUNTING:
        return "".join(re.findall(r"\d+", response)) == truth
    return truth in response or (truth in ("Yes", "No") and response == truth[0])


def _is_strictly_right(task: str, response: str | None, truth: str) -> bool:
    """Whether `response` names the right number, word or letter and no other."""
    if response is None:
        return False
    if task == COUNTING:
        return re.findall(r"\d+", response) == [truth]
    if truth in ("Yes", "No"):
        return {word[0] for word in re.findall(r"\b(yes|no|y|n)\b", response.lower())} == {
            truth[0].lower()
        }
    return set(re.findall(r"\b[A-H]\b", response)) == {truth}
