"""Camera faults: their times are exact, and they do not change the events."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_vlm.cli import main
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault, Faults, plan_faults
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.world import World

SIZE = (160, 120)
IN_THE_PICTURE = ("rolling", "motion-blur", "defocus", "noise", "jpeg")


def failing(kind: str, seed: int = 3) -> tuple[World, World, Fault]:
    """A world with camera faults of `kind`, the same world without, and its first fault."""
    world = World(seed, 120.0, SIZE, faults=[kind], faults_per_minute=2.0)
    assert world.faults.all
    return world, World(seed, 120.0, SIZE), world.faults.all[0]


@pytest.mark.parametrize("kind", FAULTS)
def test_camera_faults_do_not_change_the_script(kind: str) -> None:
    world, whole, _ = failing(kind)
    assert world.script == whole.script


@pytest.mark.parametrize("kind", IN_THE_PICTURE)
def test_a_fault_changes_the_picture_only_from_its_start_to_just_before_its_end(
    kind: str,
) -> None:
    world, whole, fault = failing(kind)
    for t_s in (fault.t_start, (fault.t_start + fault.t_end) / 2, fault.t_end - 1e-3):
        assert not np.array_equal(world.view(t_s).image, whole.view(t_s).image)
    for t_s in (fault.t_start - 1e-3, fault.t_end):
        assert np.array_equal(world.view(t_s).image, whole.view(t_s).image)


@pytest.mark.parametrize("kind", IN_THE_PICTURE)
def test_a_picture_with_a_fault_does_not_depend_on_earlier_views(kind: str) -> None:
    world, _, fault = failing(kind)
    again, _, _ = failing(kind)
    world.view(1.0)
    assert np.array_equal(
        world.view(fault.t_start + 0.2).image, again.view(fault.t_start + 0.2).image
    )


def sharpness(image: np.ndarray) -> float:
    return float(
        cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[4:-4, 4:-4].std()
    )


def test_blur_removes_detail_and_noise_adds_some() -> None:
    for kind, sharper in (("motion-blur", False), ("defocus", False), ("noise", True)):
        world, whole, fault = failing(kind)
        # The camera's own noise is added after the lens, so it is removed before the comparison.
        seen, clean = (
            cv2.medianBlur(each.view(fault.t_start).image, 3 if not sharper else 1)
            for each in (world, whole)
        )
        assert (sharpness(seen) > sharpness(clean)) == sharper, kind


def test_jpeg_artefacts_are_blocks_of_eight_pixels() -> None:
    world, whole, fault = failing("jpeg")

    def blockiness(image: np.ndarray) -> float:
        steps = np.abs(np.diff(image.astype(float).mean(axis=2), axis=1)).mean(axis=0)
        return float(steps[7::8].mean() / steps.mean())

    assert blockiness(world.view(fault.t_start).image) > 1.5 * blockiness(
        whole.view(fault.t_start).image
    )


def test_rows_of_a_rolling_shutter_picture_are_exposed_at_different_times() -> None:
    checked = 0
    for seed in range(12):
        world = World(seed, 120.0, SIZE, faults=["rolling"], faults_per_minute=3.0)
        whole = World(seed, 120.0, SIZE)
        for fault in world.faults.all:
            event = next(
                (
                    event
                    for event in world.script.events
                    if event.t_start + 0.4 < fault.t_end - 0.3 and event.t_end > fault.t_start
                ),
                None,
            )
            if event is None or event.action not in ("enters", "leaves"):
                continue
            t_s = max(fault.t_start, event.t_start + 0.4)
            rolled, now = world.view(t_s), whole.view(t_s)
            last = SIZE[1] * 7 // 8
            assert np.array_equal(rolled.instances[last:], now.instances[last:])
            assert [thing.instance for thing in rolled.things] == [
                int(number) for number in np.unique(rolled.instances) if number > 0
            ]
            checked += not np.array_equal(rolled.instances, now.instances)
    assert checked


def test_a_frozen_camera_shows_the_picture_from_the_start_of_the_fault() -> None:
    world, whole, fault = failing("frozen")
    frozen = whole.view(fault.t_start)
    for t_s in (fault.t_start, fault.t_start + 0.5, fault.t_end - 1e-3):
        assert np.array_equal(world.view(t_s).image, frozen.image)
        assert world.view(t_s).things == frozen.things
    assert np.array_equal(world.view(fault.t_end).image, whole.view(fault.t_end).image)


def test_there_is_no_picture_while_pictures_are_dropped() -> None:
    world, _, fault = failing("dropped")
    assert [
        world.has_picture(t_s)
        for t_s in (fault.t_start - 1e-3, fault.t_start, fault.t_end - 1e-3, fault.t_end)
    ] == [True, False, False, True]


def test_a_hidden_event_is_visible_at_the_end_of_the_fault() -> None:
    faults = Faults(
        [
            Fault("dropped", 2.0, 4.0, 1.0, 0),
            Fault("frozen", 4.0, 6.0, 1.0, 0),
            Fault("frozen", 9.0, 10.0, 1.0, 0),
        ]
    )
    assert [faults.visible_from(t_s) for t_s in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.5)] == [
        1.0,
        4.0,
        4.0,
        4.0,
        6.0,
        6.0,
        10.0,
    ]
    touching = Faults([Fault("dropped", 2.0, 4.0, 1.0, 0), Fault("frozen", 3.0, 6.0, 1.0, 0)])
    assert touching.visible_from(2.5) == 6.0


def test_faults_of_a_kind_do_not_depend_on_the_other_kinds_and_never_overlap() -> None:
    every = plan_faults(5, 1200.0, FAULTS, 2.0)
    for kind in FAULTS:
        mine = [fault for fault in every.all if fault.kind == kind]
        alone = list(plan_faults(5, 1200.0, [kind], 2.0).all)
        assert all(later.t_start > earlier.t_end for earlier, later in pairwise(mine))
        assert mine == alone if kind != "frozen" else set(mine) <= set(alone)
        assert 0.5 < len(alone) / 40 < 1.5, "about two a minute"
    assert not any(
        every.active("frozen", t_s) and every.active("dropped", t_s)
        for t_s in np.arange(0, 1200, 0.05)
    )


@pytest.mark.parametrize(
    ("faults", "rate", "named"),
    [
        (["fog"], 1.0, "faults: 'fog'"),
        (["noise"], 0.0, "faults_per_minute: 0"),
        (["noise"], 9.0, "9.0"),
    ],
)
def test_an_unknown_fault_or_a_rate_out_of_range_is_refused(
    faults: list[str], rate: float, named: str
) -> None:
    with pytest.raises(WorldError, match=named):
        World(1, 20.0, SIZE, faults=faults, faults_per_minute=rate)


def test_the_command_writes_the_times_of_faults_and_when_events_become_visible(
    tmp_path: Path,
) -> None:
    arguments = [
        "simulate",
        "--seed",
        "3",
        "--minutes",
        "0.5",
        "--fps",
        "4",
        "--size",
        "160",
        "120",
        "--out",
        str(tmp_path),
    ]
    assert (
        main(
            [
                *arguments,
                "--faults",
                "dropped,frozen",
                "--faults",
                "jpeg",
                "--faults-per-minute",
                "6",
                "--events-per-minute",
                "20",
            ]
        )
        == 0
    )
    document = json.loads((tmp_path / "labels.json").read_text())
    world = World(
        3,
        30.0,
        SIZE,
        events_per_minute=20.0,
        faults=["dropped", "frozen", "jpeg"],
        faults_per_minute=6.0,
    )
    assert {fault["kind"] for fault in document["faults"]} == {"dropped", "frozen", "jpeg"}
    assert [(fault["t_start"], fault["t_end"]) for fault in document["faults"]] == [
        (fault.t_start, fault.t_end) for fault in world.faults.all
    ]
    assert any(event["seen_end"] > event["t_end"] for event in document["events"])
    assert all(
        event["seen_end"] == world.faults.visible_from(event["t_end"])
        for event in document["events"]
    )
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    pictures = [video.read()[1] for _ in range(120)]
    assert not video.read()[0]
    assert all(picture is not None for picture in pictures)
    drop = next(
        fault for fault in world.faults.all if fault.kind == "dropped" and fault.t_start > 0.5
    )
    inside = [index for index in range(120) if drop.t_start <= index / 4 < drop.t_end]
    change = [
        float(np.abs(pictures[index].astype(int) - pictures[index - 1].astype(int)).mean())
        for index in range(1, 120)
    ]
    assert max(change[index - 1] for index in inside) < np.median(change) + 0.5, (
        "a dropped picture repeats the one before"
    )


def test_the_command_refuses_an_unknown_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "simulate",
                "--seed",
                "3",
                "--minutes",
                "0.1",
                "--out",
                str(tmp_path),
                "--faults",
                "fog",
            ]
        )
        != 0
    )
    assert "faults: 'fog' is refused; use some of rolling" in capsys.readouterr().err
