"""Logs and metrics: what the events of the controller become."""
