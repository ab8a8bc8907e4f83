#!/bin/bash
# Runs a command with the workspace sourced.
set -e
source /workspace/install/setup.bash
exec "$@"
