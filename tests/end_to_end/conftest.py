"""The finished demo as a fixture: one run for every end-to-end test."""

from tests.end_to_end.finished_demo import demo

__all__ = ["demo"]
