"""Run the command line with `python -m stream_vlm.cli`."""

import sys

from stream_vlm.cli import main

sys.exit(main())
