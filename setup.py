"""`pip install .`: the ROS-free library and its `stream-vlm` command.

On a robot colcon uses CMakeLists.txt instead.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "src/stream_vlm/__init__.py").read_text(), re.MULTILINE
)
assert VERSION, "src/stream_vlm/__init__.py states no __version__"

setup(
    name="stream-vlm",
    version=VERSION[1],
    description=(
        "Streaming vision-language understanding for robots: watch, speak when something happens,"
        " remember and recall"
    ),
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages(
        "src", include=["stream_vlm", "stream_vlm.*", "stream_vlm_lab", "stream_vlm_lab.*"]
    ),
    package_data={"stream_vlm": ["assets/**/*", "py.typed"]},
    install_requires=[
        "click>=8.1",
        "torch>=2.4",
        "transformers>=5.20,<6",
        "click>=8.1",
        "numpy>=1.24",
        "matplotlib>=3.5",
        "opencv-python-headless>=4.8",
        "pillow>=9.0",
        "pydantic>=2.7",
        "rosbags>=0.11",
        "rosbags-image>=0.10",
        "safetensors>=0.5",
        "sqlite-utils>=3.38",
        "tokenizers>=0.21",
        "tqdm>=4.57",
    ],
    extras_require={
        "large": ["accelerate>=1.1", "bitsandbytes>=0.46.1"],
        "judge": ["httpx>=0.27"],
        "encryption": ["sqlcipher3>=0.6.4"],
        "train": ["accelerate>=1.1", "peft>=0.18", "tensorboard>=2.14"],
    },
    entry_points={"console_scripts": ["stream-vlm=stream_vlm.cli:main"]},
)
