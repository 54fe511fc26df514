"""Which request goes next, and how many may be in flight. Pure."""
