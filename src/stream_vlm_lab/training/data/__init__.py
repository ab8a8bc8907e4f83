"""Readers of published training formats; all return one kind of sample and report refused rows."""
