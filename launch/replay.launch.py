"""Run the node on a recording: play a bag with its own time, as if it were the robot.

The player waits until the node is active, so that the node sees the beginning.

ros2 launch stream_vlm_ros replay.launch.py bag:=office.mcap topics:=/front/image_raw
"""

import importlib.util
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.event_handlers import OnStateTransition

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from stream_vlm.sources.rosbag import camera_name
from stream_vlm_ros.launch_arguments import is_true

REQUIRED = (
    ("bag", "Recording to play: a rosbag2 folder, an .mcap file or a .db3 file."),
    (
        "topics",
        (
            "Image topics of the recording that the node watches, separated by commas. A name that"
            " ends in /compressed means sensor_msgs/CompressedImage."
        ),
    ),
)
OPTIONAL = (
    (
        "odom_topic",
        "",
        (
            "Odometry topic of the recording that gives each record the robot's pose. Empty stores"
            " records without a pose."
        ),
    ),
    ("rate", "1.0", "Playback speed: 2.0 plays twice as fast as it was recorded."),
    ("loop", "false", "true starts again at the end; every round is a new session."),
    (
        "player",
        "auto",
        (
            "Program that plays the recording: ros2bag, or camera_source, which comes with this"
            " package. auto uses ros2bag if it is installed."
        ),
    ),
    (
        "shutdown_at_end",
        "false",
        (
            "true stops everything when the recording ends; false keeps the node running, so that"
            " you can ask it."
        ),
    ),
    ("model_directory", "", "As in stream_vlm.launch.py."),
    ("instructions", "", "As in stream_vlm.launch.py."),
    ("memory_file", "", "As in stream_vlm.launch.py."),
    ("params_file", "", "As in stream_vlm.launch.py."),
    ("namespace", "", "As in stream_vlm.launch.py."),
    ("respawn", "true", "As in stream_vlm.launch.py."),
    ("log_level", "info", "As in stream_vlm.launch.py."),
)
PASSED_ON = (
    "odom_topic",
    "model_directory",
    "instructions",
    "memory_file",
    "params_file",
    "namespace",
    "respawn",
    "log_level",
)


def generate_launch_description() -> LaunchDescription:
    arguments = [DeclareLaunchArgument(name, description=text) for name, text in REQUIRED]
    arguments += [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in OPTIONAL
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=replay)])


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node and the player.

    Raises:
        ValueError: an argument is refused; the message names it and what is allowed.
    """
    value = {
        name: LaunchConfiguration(name).perform(context) for name, *_ in (*REQUIRED, *OPTIONAL)
    }
    topics = [topic.strip() for topic in value["topics"].split(",") if topic.strip()]
    if not Path(value["bag"]).expanduser().exists():
        raise ValueError(
            f"bag:={value['bag']} does not exist; name a rosbag2 folder, .mcap or .db3 file"
        )
    if not topics:
        raise ValueError(
            "topics:= names no image topic of the recording; name one, for example"
            " topics:=/front/image_raw"
        )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([ThisLaunchFileDir(), "stream_vlm.launch.py"])
        ),
        launch_arguments={
            "cameras": ",".join(camera_name(topic) for topic in topics),
            "topics": ",".join(topics),
            "transports": ",".join(
                "compressed" if is_compressed(topic) else "raw" for topic in topics
            ),
            "use_sim_time": "true",
            "autostart": "true",
            **{name: value[name] for name in PASSED_ON},
        }.items(),
    )
    return [player(value, topics), node]


def player(value: dict[str, str], topics: list[str]) -> LaunchDescriptionEntity:
    """Return the process that publishes the recording and /clock, or what starts it.

    camera_source waits itself until the node listens. ros2 bag does not, so it is started when the
    node is active for the first time: a node that is activated again sees the recording go on.

    Raises:
        ValueError: an argument is refused.
    """
    installed = importlib.util.find_spec("ros2bag") is not None
    chosen = (
        value["player"]
        if value["player"] != "auto"
        else ("ros2bag" if installed else "camera_source")
    )
    # None, for launch fails at the end of a process whose on_exit is an empty list.
    on_exit = (
        Shutdown(reason="the recording has ended")
        if is_true("shutdown_at_end", value["shutdown_at_end"])
        else None
    )
    loop = ["--loop"] if is_true("loop", value["loop"]) else []
    if chosen == "ros2bag":
        command = [
            "ros2",
            "bag",
            "play",
            value["bag"],
            "--clock",
            "40",
            "--rate",
            value["rate"],
            *loop,
        ]
        process = ExecuteProcess(cmd=command, name="bag_player", output="screen", on_exit=on_exit)
        active = OnStateTransition(
            start_state="activating", goal_state="active", entities=[process], handle_once=True
        )
        return RegisterEventHandler(active)
    if chosen != "camera_source":
        raise ValueError(f"player:={chosen} is refused; give auto, ros2bag or camera_source")
    compressed = is_compressed(topics[0])
    if any(is_compressed(topic) != compressed for topic in topics):
        raise ValueError(
            f"topics:={value['topics']}: camera_source plays raw or compressed topics, not both;"
            " install ros2bag, or name one kind"
        )
    suffix = "/compressed" if compressed else ""
    published = (
        ["image_raw"]
        if len(topics) == 1
        else [f"{camera_name(topic)}/image_raw" for topic in topics]
    )
    odometry = (
        ["--bag-odom", value["odom_topic"], "--odom-topic", value["odom_topic"]]
        if value["odom_topic"]
        else []
    )
    return Node(
        package="stream_vlm_ros",
        executable="camera_source",
        arguments=[
            value["bag"],
            *(word for topic in topics for word in ("--bag-topic", topic)),
            *(
                "--transport",
                "compressed" if compressed else "raw",
                "--clock",
                "--rate",
                value["rate"],
                "--listeners",
                "1",
                "--wait",
                "inf",
            ),
            *odometry,
            *loop,
        ],
        remappings=[(name + suffix, topic) for name, topic in zip(published, topics, strict=True)],
        output="screen",
        on_exit=on_exit,
    )


def is_compressed(topic: str) -> bool:
    return topic.endswith("/compressed")
