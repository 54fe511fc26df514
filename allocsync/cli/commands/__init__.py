"""One file a command; each holds a click command of the same name."""
