"""A damaged file: what can still be read goes on in a fresh one."""
