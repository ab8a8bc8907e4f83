"""Start the stream_vlm node, configure it and activate it.

ros2 launch stream_vlm_ros stream_vlm.launch.py cameras:=front,rear
topics:=/front/image,/rear/image/compressed transports:=raw,compressed
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from stream_vlm_ros.launch_arguments import camera_parameters, instruction_parameters, is_true

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
        "model_url",
        "",
        (
            "Address of a server with the OpenAI chat protocol that runs the model, for example"
            " http://gpu:8000/v1. Empty takes it from params_file, or runs the model in the node."
        ),
    ),
    (
        "instructions",
        "",
        (
            "What the robot reports whenever it happens: sentences in plain words, separated by"
            " semicolons. Empty takes them from params_file, or leaves it to the model."
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
    (
        "respawn",
        "true",
        (
            "true starts the node again, after two seconds, when its process ends while launch"
            " runs; with autostart it becomes active again."
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
    """Return the node. With `autostart` it configures and activates itself.

    Events of launch could not do that after a respawn: they would reach the process that ended, for
    the middleware takes seconds to notice its end.

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
        {
            "use_sim_time": is_true("use_sim_time", value["use_sim_time"]),
            "autostart": is_true("autostart", value["autostart"]),
            **camera_parameters(value),
            **instruction_parameters(value["instructions"]),
        }
    )
    for argument, setting in (
        ("odom_topic", "pose.odom_topic"),
        ("model_directory", "model.directory"),
        ("model_url", "model.url"),
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
        respawn=is_true("respawn", value["respawn"]),
        respawn_delay=2.0,
    )
    return [node]
