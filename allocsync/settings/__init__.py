"""The settings: which there are, where their values come from, and how mistakes are reported."""
