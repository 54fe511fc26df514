"""The values that every part speaks of. Pure: no I/O, no clock, no chance."""
