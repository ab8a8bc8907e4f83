"""The lab's commands of `stream-vlm`; they are found by entry points."""
