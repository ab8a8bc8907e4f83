"""`stream-vlm memory`: count, check, copy, export, import, forget and show."""
