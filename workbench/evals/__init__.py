"""Judging answers: statistics that say how sure one can be."""
