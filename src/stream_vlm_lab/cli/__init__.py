"""The commands of the lab; they join `stream-vlm` by entry points."""
