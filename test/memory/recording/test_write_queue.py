"""What waits to be stored keeps its order, whatever failed before."""

import pytest

from stream_vlm.memory.recording.write_queue import WaitingSession, WaitingStep, WriteQueue


@pytest.fixture
def queue() -> WriteQueue:
    return WriteQueue()


def step() -> WaitingStep:
    return WaitingStep(None)


def test_what_failed_before_comes_first_and_in_its_order(queue: WriteQueue) -> None:
    first, second, third = step(), step(), step()
    for item in (first, second):
        queue.add(item)
        queue.move_to_backlog()
    queue.add(third)
    taken = []
    while oldest := queue.oldest():
        taken.append(oldest)
        queue.remove_oldest()
    assert taken == [first, second, third]
    assert not queue


def test_a_full_queue_loses_steps_and_keeps_sessions(queue: WriteQueue) -> None:
    session, first, second = WaitingSession("s", "m", "start", 0), step(), step()
    queue.add(session)
    queue.add(first)
    queue.move_to_backlog()
    queue.move_to_backlog()
    queue.add(second)
    assert queue.steps == 2
    assert [queue.take_oldest_step(), queue.take_oldest_step()] == [first, second]
    assert queue.steps == 0
    assert queue.take_all() == [session]


def test_a_refused_step_leaves_the_incoming_ones_alone(queue: WriteQueue) -> None:
    failed, refused, newest = step(), step(), step()
    queue.add(failed)
    queue.move_to_backlog()
    queue.add(refused)
    queue.add(newest)
    assert queue.oldest_incoming() is refused
    queue.remove_oldest_incoming()
    assert queue.take_all() == [failed, newest]
    assert not queue.has_backlog
    assert not queue.has_incoming
