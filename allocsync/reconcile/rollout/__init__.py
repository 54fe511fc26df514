"""Puts revisions in force, as far as the change limit lets them."""
