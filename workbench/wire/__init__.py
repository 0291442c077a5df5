"""Bytes to values and back, for every dialect we speak; no I/O happens here."""
