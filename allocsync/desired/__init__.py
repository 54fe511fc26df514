"""Reads the desired state: YAML files become one revision, or a list of every error in them."""
