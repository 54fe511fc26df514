"""What is said about the daemon: metrics, health, logs, the HTTP listener."""
