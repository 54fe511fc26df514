"""The values that all packages share. Pure: no I/O, no clock, no randomness."""
