"""Rooms with things or backgrounds that no training shows: the same events before the same labels, other pixels."""

from __future__ import annotations

import numpy as np
import pytest

from stream_vlm.world.language import PORTABLE_KINDS
from stream_vlm.world.render import World
from stream_vlm.world.script import WorldError

SIZE = (192, 128)


def test_an_unseen_look_changes_pixels_and_neither_events_nor_labels() -> None:
    for look in ("unseen objects", "unseen backgrounds"):
        seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look=look)
        assert seen.script.events == unseen.script.events and seen.script.states == unseen.script.states
        assert not np.array_equal(seen.view(5.0).image, unseen.view(5.0).image)


def test_unseen_backgrounds_leave_every_thing_where_it_is() -> None:
    seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look="unseen backgrounds")
    assert np.array_equal(seen.view(5.0).instances, unseen.view(5.0).instances)


def test_unseen_objects_change_only_pixels_of_portable_things() -> None:
    seen, unseen = World(3, 20.0, SIZE), World(3, 20.0, SIZE, look="unseen objects")
    before, after = seen.view(5.0), unseen.view(5.0)
    portable = [thing.instance for thing in before.things if thing.kind in PORTABLE_KINDS]
    assert portable
    touched = np.isin(before.instances, portable) | np.isin(after.instances, portable)
    others = (before.instances == after.instances) & (before.instances > 0) & ~touched
    assert [thing.kind for thing in before.things] == [thing.kind for thing in after.things]
    assert touched.any() and np.array_equal(before.instances[others], after.instances[others])


@pytest.mark.parametrize("kind", PORTABLE_KINDS)
def test_every_kind_has_an_unseen_form_that_is_drawn_in_its_own_size(kind: str) -> None:
    for seed in range(60):
        world = World(seed, 20.0, SIZE, look="unseen objects")
        found = [thing for thing in world.view(0.0).things if thing.kind == kind and thing.visible_fraction > 0.9]
        if found:
            pixels = int((world.view(0.0).instances == found[0].instance).sum())
            plain = int((World(seed, 20.0, SIZE).view(0.0).instances == found[0].instance).sum())
            assert 0.3 * plain < pixels < 2.5 * plain
            return
    pytest.fail(f"no {kind} in sight of 60 worlds")


def test_an_unknown_look_is_refused_by_name() -> None:
    with pytest.raises(WorldError, match="look: 'upside down' is refused; use one of seen, unseen objects"):
        World(3, 20.0, SIZE, look="upside down")
