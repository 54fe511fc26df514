"""Scales the number of random cases to the tier of the tests; conftest.py defines the tiers."""

from hypothesis import settings


def part_of(number: int) -> int:
    """Return how many of `number` random cases this tier runs: all, or the fast tier's share (at least 1)."""
    return max(1, number * settings().max_examples // 100)
