"""Watch a clip and print what happens.

python examples/watch_a_clip.py clip.mp4            # any video, webcam index or rosbag2 folder
python examples/watch_a_clip.py world:7             # a simulated room, with the lab installed
"""

import sys
import tempfile
from pathlib import Path

from stream_vlm import Pipeline, load_settings, open_source

source = open_source(sys.argv[1])
folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
with Pipeline(load_settings({"memory.path": str(folder / "memory.db")})) as pipeline:
    run = pipeline.run(source)
    for result in run:
        for event in result.events:
            start_s, end_s = ((ns - run.first_ns) / 1e9 for ns in (event.start_ns, event.end_ns))
            print(f"{start_s:6.1f} - {end_s:.1f} s  {event.label}  ({event.confidence:.2f})")
print(f"kept in {folder / 'memory.db'}")
