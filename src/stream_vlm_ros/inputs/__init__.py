"""Incoming messages: camera subscriptions, image decoding, poses, sessions."""
