"""Decides what should change, from values alone. Pure: no I/O, clock, randomness, logging or framework."""
