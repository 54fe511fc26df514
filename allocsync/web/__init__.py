"""The HTTP listener: metrics, health, status in JSON, and commands to the daemon."""
