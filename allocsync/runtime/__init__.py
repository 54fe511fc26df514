"""The process of the daemon: its start and end, its wiring, its state directory and systemd."""
