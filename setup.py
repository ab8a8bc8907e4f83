"""For tools that look for a setup.py: pyproject.toml says all. colcon uses CMakeLists.txt."""

from setuptools import setup

setup()
