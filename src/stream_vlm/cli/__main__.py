"""Run the command line with `python -m stream_vlm.cli`."""

import sys

from stream_vlm.cli import main

if __name__ == "__main__":  # A process that the program starts may import this file again.
    sys.exit(main())
