"""The settings: what can be set, where values come from, and what is wrong with them."""
