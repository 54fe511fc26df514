"""The life of the process: what starts it, wires it, locks its state and talks to systemd."""
