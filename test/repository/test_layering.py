"""Which room may import which: no circles, and one table that names every room.

Every import counts: at module level, under TYPE_CHECKING and inside functions.
"""

import pytest
from import_graph import (
    INIT,
    OUR_FILES,
    OUR_PACKAGES,
    find_circle,
    graph_of_level,
    imports_of,
    our_graph,
    reached_from,
)

GRAPH = our_graph()

ALLOWED = {
    # The library. Names without a package are rooms of it.
    "__init__": "config memory pipeline sources",
    "types": "",
    "local_time": "types",
    "clock_points": "",
    "time_phrases": "clock_points local_time types",
    "time_words": "local_time types",
    "redact": "",
    "unicode_text": "types",
    "run_records": "types unicode_text",
    "model_protocol": "types",
    "extensions": "",
    "config": "types",
    "text_models": "config types unicode_text",
    "context": "config time_words types",
    "vision": "types",
    "backbone": "config context model_protocol redact text_models types unicode_text vision",
    "memory": "config local_time model_protocol text_models time_phrases time_words types",
    "loop": "config model_protocol types",
    "sources": "extensions loop redact types",
    "delegate": "config text_models time_words types",
    "pipeline": "backbone config delegate loop memory model_protocol sources text_models types"
    " unicode_text",
    "cli": "__init__ backbone config extensions memory model_protocol pipeline redact run_records"
    " sources local_time text_models time_phrases time_words types unicode_text",
    # What a robot does not need.
    "lab.__init__": "",
    "lab.simulation": "sources types",
    "lab.training": "backbone config context sources types unicode_text vision lab.simulation",
    "lab.evaluation": "backbone config context loop model_protocol run_records sources text_models"
    " types unicode_text vision lab.simulation lab.training",
    "lab.demo": "config memory run_records sources types lab.evaluation lab.simulation ros.common"
    " ros.inputs",
    "lab.cli": "backbone cli config context types unicode_text lab.evaluation lab.simulation"
    " lab.training",
    # The ROS edge.
    "ros.__init__": "",
    "ros.launch_arguments": "",
    "ros.common": "memory types",
    "ros.inputs": "config loop sources types ros.common",
    "ros.requests": "config delegate memory model_protocol pipeline types unicode_text ros.common",
    "ros.model_thread": "loop pipeline sources types ros.common ros.inputs ros.requests",
    "ros.lifecycle": "config delegate loop memory model_protocol pipeline sources types ros.common"
    " ros.inputs ros.model_thread ros.requests",
    "ros.camera_source": "redact sources types ros.common",
    "ros.node": "backbone config model_protocol types ros.common ros.lifecycle",
}
"""For every file and folder at the top of a package, the others that it imports."""

PREFIX = {"stream_vlm": "", "stream_vlm_lab": "lab.", "stream_vlm_ros": "ros."}
LIBRARY = {room for room in ALLOWED if "." not in room}
HEAVY = {"torch", "transformers", "safetensors", "tokenizers"}
ROS = {"rclpy", "launch", "launch_ros", "cv_bridge", "tf2_ros", "ament_index_python"}


def room_of(module: str) -> str:
    """The room of one of our modules, named as in `ALLOWED`."""
    package, _, rest = module.partition(".")
    return PREFIX[package] + (rest.split(".")[0] or INIT)


def is_ros(module: str) -> bool:
    """Whether `module` is there only where ROS is, messages included."""
    package = module.split(".")[0]
    return package in ROS or package.endswith(("_msgs", "_srvs", "_interfaces"))


ROOMS: dict[str, set[str]] = {}
"""For every room the other rooms that it imports."""

for _name, _targets in GRAPH.items():
    ROOMS.setdefault(room_of(_name), set()).update(
        room_of(target) for target in _targets if room_of(target) != room_of(_name)
    )


def below(room: str) -> set[str]:
    """Every room that `room` imports, directly or through others."""
    found: set[str] = set()
    waiting = [room]
    while waiting:
        new = ROOMS[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_no_file_imports_itself_through_others() -> None:
    assert find_circle(GRAPH) == []


@pytest.mark.parametrize("package", ["", *OUR_PACKAGES])
def test_no_file_or_folder_imports_itself_through_its_neighbours(package: str) -> None:
    assert find_circle(graph_of_level(GRAPH, package)) == []


def test_the_table_names_every_file_and_folder_at_the_top_of_a_package() -> None:
    assert sorted(ALLOWED) == sorted(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_exactly_what_the_table_says(room: str) -> None:
    """A missing entry is an import that nobody agreed to; one too many hides the next such."""
    assert sorted(ROOMS[room]) == sorted(ALLOWED.get(room, "").split())


ABOVE_LOOP = {INIT, "cli", "pipeline", "sources"}


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("types", set(ALLOWED)),
        ("context", {"memory", "backbone"}),
        ("memory", {"backbone", "context", "vision"}),
        ("backbone", {"memory"}),
        *((room, {"loop"}) for room in sorted(LIBRARY - ABOVE_LOOP - {"loop"})),
        ("loop", {"pipeline", "sources", "cli"}),
        ("sources", {"pipeline", "cli"}),
        ("memory", {"pipeline", "cli"}),
        ("pipeline", {"cli"}),
    ],
)
def test_a_room_does_not_reach_what_stands_above_or_beside_it(room: str, never: set[str]) -> None:
    """The rules of the house, which no change of the table may break."""
    assert not below(room) & never


def test_the_library_imports_neither_the_lab_nor_ros() -> None:
    assert {room: ROOMS[room] - LIBRARY for room in LIBRARY if ROOMS[room] - LIBRARY} == {}


def test_the_lab_and_ros_do_not_import_each_other_but_for_the_processes_of_the_demo() -> None:
    crossing = {
        (room, target)
        for room, targets in ROOMS.items()
        for target in targets
        if {room.split(".")[0], target.split(".")[0]} == {"lab", "ros"}
    }
    assert {room for room, _ in crossing} == {"lab.demo"}


def test_ros_modules_are_imported_by_the_ros_edge_and_the_demo_alone() -> None:
    rooms = {room_of(name) for name in OUR_FILES if any(map(is_ros, imports_of(name)))}
    assert "ros.node" in rooms
    assert {room for room in rooms if not room.startswith("ros.")} == {"lab.demo"}


def test_a_recall_tool_starts_without_torch() -> None:
    heavy = {
        f"{name} reaches {target}"
        for name in OUR_FILES
        if room_of(name) == "memory"
        for target in reached_from(name, at_import_time=True)
        if target.split(".")[0] in HEAVY
    }
    assert heavy == set()
    assert "torch" in reached_from("stream_vlm.backbone.streaming_model", at_import_time=True)


def test_a_server_as_the_model_needs_no_torch() -> None:
    heavy = {
        f"{name} reaches {target}"
        for name in OUR_FILES
        if name.startswith("stream_vlm.backbone.remote")
        for target in reached_from(name, at_import_time=True)
        if target.split(".")[0] in HEAVY
    }
    assert heavy == set()
