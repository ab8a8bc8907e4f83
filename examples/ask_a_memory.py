"""Ask a memory file: search it, and let it compute an answer.

    python examples/ask_a_memory.py memory.db ball

The file may be in use by a node; this program only reads. It loads no model.
"""

import sys

from stream_vlm import Memory, load_settings
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.search.query import RecallQuery

path, word = sys.argv[1], sys.argv[2]
with Memory.open(load_settings({"memory.path": path}).memory, read_only=True) as memory:
    found = memory.recall(RecallQuery(word, order="newest", limit=3))
    print(f"{found.total} records about '{word}', in {found.took_ms:.1f} ms; the newest:")
    for record in found.records:
        print(f"  {record.kind}: {record.text}  (camera {record.camera}, {record.confidence:.2f})")
    answer = memory.answer(Question(RecallQuery(word), "how_often"))
    print(f"how often: {answer.text}")
