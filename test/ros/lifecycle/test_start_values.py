"""Names that nothing reads and cameras that share a topic are refused when the node configures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
import yaml
from places import REPOSITORY
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import Settings
from stream_vlm_ros.lifecycle.parameters import Parameters

Configure = Callable[..., Settings]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configure the parameters of a node in the namespace /r1, with remappings as arguments."""
    context = Context()
    rclpy.init(context=context)
    nodes: list[Node] = []

    def make(*remaps: str, **values: Any) -> Settings:
        overrides = [
            Parameter(name.replace("__", "."), value=value) for name, value in values.items()
        ]
        node = Node(
            "stream_vlm",
            namespace="/r1",
            context=context,
            parameter_overrides=overrides,
            cli_args=["--ros-args", *(word for remap in remaps for word in ("-r", remap))],
        )
        nodes.append(node)
        return Parameters(node, lambda: None).configure()

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


TWO = {"cameras": ["front", "rear"]}


@pytest.mark.parametrize(
    ("topics", "remaps"),
    [
        (("image", "image"), ()),
        (("image", "/r1/image"), ()),
        (("/a/image", "/b/image"), ("/b/image:=/a/image",)),
        (("image", "rear"), ("rear:=image",)),
        (("~/image", "stream_vlm/image"), ()),
    ],
)
def test_two_cameras_on_one_topic_are_refused_in_one_sentence_that_names_both(
    configure: Configure, topics: tuple[str, str], remaps: tuple[str, ...]
) -> None:
    with pytest.raises(SettingError, match="cameras 'front' and 'rear' both watch /") as refused:
        configure(*remaps, **TWO, camera__front__topic=topics[0], camera__rear__topic=topics[1])
    assert "camera.rear.topic" in str(refused.value)


def test_two_cameras_without_a_topic_share_the_default_and_are_refused(
    configure: Configure,
) -> None:
    with pytest.raises(SettingError, match="both watch /r1/image_raw"):
        configure(**TWO)


@pytest.mark.parametrize("compressed", ["front", "rear"])
def test_raw_and_compressed_pictures_of_one_camera_are_refused(
    configure: Configure, compressed: str
) -> None:
    raw = "rear" if compressed == "front" else "front"
    with pytest.raises(SettingError, match="two forms of the same pictures"):
        configure(
            **TWO,
            **{
                f"camera__{raw}__topic": "image",
                f"camera__{compressed}__topic": "image/compressed",
                f"camera__{compressed}__transport": "compressed",
            },
        )


@pytest.mark.parametrize(
    ("topics", "transport", "remaps"),
    [
        (("front/image", "rear/image"), "raw", ()),
        (("front/compressed", "rear/compressed"), "compressed", ()),
        (("left", "right"), "raw", ("left:=/a/image", "right:=/b/image")),
        (("image", "image/compressed"), "raw", ()),
    ],
)
def test_cameras_with_topics_of_their_own_are_accepted(
    configure: Configure, topics: tuple[str, str], transport: str, remaps: tuple[str, ...]
) -> None:
    settings = configure(
        *remaps,
        **TWO,
        camera__front__topic=topics[0],
        camera__rear__topic=topics[1],
        camera__front__transport=transport,
        camera__rear__transport=transport,
    )
    assert settings.cameras == ["front", "rear"]


@pytest.mark.parametrize("topic", ["1image", "two words", "a//b", "image/", "{x}"])
def test_a_name_that_is_no_topic_is_refused_with_its_parameter(
    configure: Configure, topic: str
) -> None:
    with pytest.raises(SettingError, match=r"camera\.camera\.topic: '.*' is not the name of a"):
        configure(camera__camera__topic=topic)
    with pytest.raises(SettingError, match=r"pose\.odom_topic: '.*' is not the name of a topic"):
        configure(pose__odom_topic=topic)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("stream.rate_hzz", "stream.rate_hz"),
        ("stream.ratehz", "stream.rate_hz"),
        ("strem.rate_hz", "stream.rate_hz"),
        ("rate_hz", ""),
        ("autostrat", "autostart"),
        ("camera.camera.topik", "camera.camera.topic"),
        ("camera.topic", "camera.camera.topic"),
        ("memory.pathh", "memory.path"),
        ("memory.nothing_like_it_at_all", "memory."),
        ("decision.unasked", "decision."),
    ],
)
def test_a_misspelt_parameter_is_refused_and_the_nearest_name_is_given(
    configure: Configure, name: str, near: str
) -> None:
    if not near:
        configure(**{name.replace(".", "__"): 2.0})  # it may belong to another node
        return
    with pytest.raises(SettingError, match=f"{name}: no such parameter.* perhaps {near}"):
        configure(**{name.replace(".", "__"): 2.0})


@pytest.mark.parametrize(
    "values",
    [
        {"use_sim_time": True},
        {"start_type_description_service": False},
        {"robot_base_frame": "base_link"},
        {"controller.max_speed": 1.0},
        {"camera.rear.topic": "rear/image"},
    ],
)
def test_parameters_of_rclpy_and_of_other_nodes_and_cameras_are_accepted(
    configure: Configure, values: dict[str, Any]
) -> None:
    configure(**{name.replace(".", "__"): value for name, value in values.items()})


@pytest.mark.parametrize("preset", ["demo", "desktop", "orin"])
def test_no_preset_has_a_name_that_nothing_reads(configure: Configure, preset: str) -> None:
    written = yaml.safe_load((REPOSITORY / "config" / f"{preset}.yaml").read_text())
    (node,) = written.values()
    assert configure(**node["ros__parameters"]).cameras


@pytest.mark.parametrize(
    "name",
    [
        "/r1/stream_vlm/utterance.publisher.depth",
        "/r1/stream_vlm/state.publisher.depth",
        "/r1/stream_vlm/query.subscription.depth",
        "/r1/image_raw.subscription.depth",
        "/r1/odom.subscription.depth",
    ],
)
def test_an_override_of_a_topic_of_the_node_is_accepted(configure: Configure, name: str) -> None:
    configure(pose__odom_topic="odom", **{f"qos_overrides.{name}": 5})


def test_every_override_without_an_effect_is_named_with_the_misspelt_parameters(
    configure: Configure,
) -> None:
    with pytest.raises(SettingError) as refused:
        configure(
            **{
                "stream.rate_hzz": 1.0,
                "qos_overrides./r1/odom.subscription.durability": "volatile",
                "qos_overrides./r1/image_raw.subscription.deadline": 1,
            }
        )
    for part in (
        "stream.rate_hzz: no such parameter",
        "/r1/odom.subscription.durability: the QoS of '/r1/odom' cannot be overridden here",
        "/r1/image_raw.subscription.deadline: the policy deadline cannot",
    ):
        assert part in str(refused.value)
