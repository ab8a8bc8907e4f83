"""`stream-vlm memory`: statistics, checks, copies, export, import and deletion."""
