"""Activates revisions, as far as the change limit allows."""
