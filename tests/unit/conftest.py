"""Fixtures of the unit tests that more than one file uses."""

from tests.support.data_pair import meet

__all__ = ["meet"]
