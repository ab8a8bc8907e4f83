"""Session affinity on a real Ray Serve with dummy replicas.

Skipped unless STREAM_VLM_RAY_PYTHON names a Python with ray[serve]:

    python3 -m venv build/ray
    build/ray/bin/pip install -r requirements/deploy.txt
    STREAM_VLM_RAY_PYTHON=build/ray/bin/python pytest test/deploy
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from places import REPOSITORY, SUPPORT

RAY_PYTHON = os.environ.get("STREAM_VLM_RAY_PYTHON", "")

pytestmark = pytest.mark.skipif(
    not RAY_PYTHON, reason="STREAM_VLM_RAY_PYTHON names no Python with ray[serve]"
)

Answered = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """For each way to ask, and each robot: the replicas that answered its ticks."""
    report = tmp_path_factory.mktemp("ray") / "answered.json"
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY / "deploy"),
        "RAY_USAGE_STATS_ENABLED": "0",
        # On a busy machine the proxy takes longer than the usual five seconds to start.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    }
    done = subprocess.run(
        [RAY_PYTHON, SUPPORT / "dummy_replicas.py", report],
        env=environment,
        cwd=report.parent,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(report.read_text(encoding="utf-8")))


def replicas_of_each(answered: Answered, way: str) -> list[int]:
    return [len(set(ticks)) for ticks in answered[way].values()]


@pytest.mark.parametrize("way", ["session", "busy"])
def test_every_robot_stays_on_its_replica(answered: Answered, way: str) -> None:
    assert replicas_of_each(answered, way) == [1] * len(answered[way])


def test_the_robots_share_the_replicas(answered: Answered) -> None:
    assert len({ticks[0] for ticks in answered["session"].values()}) > 1


@pytest.mark.parametrize("way", ["no header", "usual router", "busy, with fallback"])
def test_without_one_of_the_parts_a_robot_changes_its_replica(answered: Answered, way: str) -> None:
    assert max(replicas_of_each(answered, way)) > 1
