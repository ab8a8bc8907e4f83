import threading

import pytest

from stream_vlm_ros.common.process_end import ProcessEnd, ProcessEnds


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> ProcessEnd:
    """An end that does not end the process of the test."""
    monkeypatch.setattr(ProcessEnd, "_watch", lambda self: None)
    return ProcessEnd()


def test_work_gives_its_result_and_its_error(end: ProcessEnd) -> None:
    assert end.run("adding", lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        end.run("dividing", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        end.finish("dividing", lambda: 1 // 0, by_s=1.0)


def test_work_that_runs_when_the_process_ends_is_left(end: ProcessEnd) -> None:
    gate = threading.Event()

    def begin_and_wait() -> None:
        end.begin()
        gate.wait()

    with pytest.raises(ProcessEnds, match="this was left: loading"):
        end.run("loading", begin_and_wait)
    assert end.left == ["loading"]
    gate.set()


def test_no_work_begins_once_the_process_ends(end: ProcessEnd) -> None:
    end.begin()
    end.begin()
    with pytest.raises(ProcessEnds, match="not begun"):
        end.run("loading", lambda: pytest.fail("this must not run"))
    with pytest.raises(ProcessEnds):
        end.check()


def test_a_thread_is_waited_for_until_the_process_ends(end: ProcessEnd) -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    end.begin()
    assert not end.join("waiting", thread, by_s=0.0)
    assert end.left == ["waiting"]
    gate.set()
    assert end.join("waiting", thread, by_s=60.0)


def test_a_wait_ends_at_its_own_limit_while_the_process_does_not_end(end: ProcessEnd) -> None:
    never, always = threading.Event(), threading.Event()
    always.set()
    assert not end.wait(never.wait, limit_s=0.0, by_s=0.0)
    assert end.wait(always.wait, limit_s=0.0, by_s=0.0)
