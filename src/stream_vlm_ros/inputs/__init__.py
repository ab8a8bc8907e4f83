"""Cameras, poses and sessions: messages in."""
