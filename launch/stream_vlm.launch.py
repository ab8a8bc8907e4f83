"""Start the stream_vlm node, configure it and activate it.

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
            "Names of the cameras, separated by commas. Empty takes them from params_file, or one"
            " camera named 'camera'."
        ),
    ),
    (
        "topics",
        "",
        (
            "Image topic of each camera, separated by commas, in the order of `cameras`. Empty"
            " takes them from params_file."
        ),
    ),
    (
        "transports",
        "",
        (
            "raw or compressed for each camera, separated by commas, in the order of `cameras`. A"
            " single word is used for all cameras."
        ),
    ),
    (
        "odom_topic",
        "",
        (
            "Odometry topic (nav_msgs/Odometry) that gives each record the robot's pose. Empty"
            " takes it from params_file; without one, records have no pose."
        ),
    ),
    (
        "model_directory",
        "",
        (
            "Directory of a Hugging Face checkpoint, for example Qwen2.5-VL or Qwen3-VL. Empty"
            " takes it from params_file, or the model that comes with the package."
        ),
    ),
    (
        "memory_file",
        "",
        (
            "SQLite file of the memory. Empty takes it from params_file, or"
            " ~/.ros/stream_vlm/memory.db."
        ),
    ),
    (
        "params_file",
        "",
        (
            "YAML file with parameters, for example one from the config folder of the package. The"
            " arguments above override it."
        ),
    ),
    ("namespace", "", "Namespace of the node."),
    (
        "use_sim_time",
        "false",
        "true takes the time from /clock; use it with a simulation or a bag played with --clock.",
    ),
    (
        "autostart",
        "true",
        (
            "true configures and activates the node. With false you do it yourself: ros2 lifecycle"
            " set /stream_vlm configure, then activate."
        ),
    ),
    ("log_level", "info", "Log level: debug, info, warn, error or fatal."),
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node and, with `autostart`, the events that configure and activate it.

    Raises:
        ValueError: an argument is refused; the message names it and what is allowed.
    """
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    # launch_ros only warns about a missing file, and the node would run with default values.
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
        # Before the node exits it finishes the running step and stores the results. Unloading the
        # model can take seconds on a busy computer.
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
    # Activate only after a configure transition: a node that a user deactivated stays inactive.
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
                    "stream_vlm could not be configured; the node's log says why. Correct it and"
                    " configure the node again"
                )
            )
        ],
    )
    return [RegisterEventHandler(configured), RegisterEventHandler(refused), node, configure]
