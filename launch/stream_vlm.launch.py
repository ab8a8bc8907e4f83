"""Start the node that keeps watching and bring it to active.

ros2 launch stream_vlm_ros stream_vlm.launch.py cameras:=front,rear
topics:=/front/image,/rear/image/compressed transports:=raw,compressed
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterFile
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from stream_vlm_ros.launch_arguments import camera_parameters, is_true

ARGUMENTS = (
    (
        "cameras",
        "",
        (
            "Names of the cameras, comma separated; empty leaves them to params_file, or to one"
            " camera named 'camera'."
        ),
    ),
    (
        "topics",
        "",
        (
            "Topic of each camera in `cameras`, comma separated, in the same order; empty leaves"
            " them to params_file."
        ),
    ),
    (
        "transports",
        "",
        (
            "raw or compressed for each camera in `cameras`, comma separated; one word is for all"
            " of them."
        ),
    ),
    (
        "odom_topic",
        "",
        (
            "Odometry (nav_msgs/Odometry) that gives each record its place; empty takes"
            " params_file's, or none."
        ),
    ),
    (
        "model_directory",
        "",
        (
            "Directory of a Hugging Face checkpoint, Qwen2.5-VL or Qwen3-VL; empty takes"
            " params_file's, or the shipped model."
        ),
    ),
    (
        "memory_file",
        "",
        "SQLite file of the memory; empty takes params_file's, or ~/.ros/stream_vlm/memory.db.",
    ),
    (
        "params_file",
        "",
        (
            "YAML file with parameters, for example one of the package's config folder; the"
            " arguments above go before it."
        ),
    ),
    ("namespace", "", "Namespace of the node."),
    (
        "use_sim_time",
        "false",
        "true takes time from /clock: a bag played with --clock, or a simulation.",
    ),
    (
        "autostart",
        "true",
        (
            "true configures and activates the node; false leaves that to you (ros2 lifecycle set"
            " /stream_vlm configure)."
        ),
    ),
    ("log_level", "info", "debug, info, warn, error or fatal."),
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node and, with `autostart`, the events that configure it once it runs and activate it
    once it is configured.
    """
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    # launch_ros only warns of a file that is missing, and the node would run with other values than
    # were asked for.
    if value["params_file"] and not Path(value["params_file"]).is_file():
        raise ValueError(
            f"params_file:={value['params_file']} is no file; name a YAML file with parameters"
        )
    parameters: list[object] = [ParameterFile(value["params_file"])] if value["params_file"] else []
    parameters.append(
        {"use_sim_time": is_true("use_sim_time", value["use_sim_time"]), **camera_parameters(value)}
    )
    for argument, setting in (
        ("odom_topic", "pose.odom_topic"),
        ("model_directory", "model.directory"),
        ("memory_file", "memory.path"),
    ):
        if value[argument]:
            parameters.append({setting: value[argument]})
    node = LifecycleNode(
        package="stream_vlm_ros",
        executable="stream_vlm_node",
        name="stream_vlm",
        namespace=value["namespace"],
        parameters=parameters,
        ros_arguments=["--log-level", value["log_level"]],
        output="screen",
        emulate_tty=True,
        # A step that runs is ended and what was seen is stored before the node goes, and unloading
        # the model takes seconds on a busy computer.
        sigterm_timeout=LaunchConfiguration("sigterm_timeout", default="30"),
    )
    if not is_true("autostart", value["autostart"]):
        return [node]
    configure = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node),
            transition_id=Transition.TRANSITION_CONFIGURE,
        )
    )
    activate = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node),
            transition_id=Transition.TRANSITION_ACTIVATE,
        )
    )
    # Only what comes from configuring is activated: a node that somebody deactivated stays
    # inactive.
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[activate],
    )
    refused = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[
            LogInfo(
                msg=(
                    "stream_vlm could not be configured: its own log says why; correct that and"
                    " configure it again"
                )
            )
        ],
    )
    return [RegisterEventHandler(configured), RegisterEventHandler(refused), node, configure]
