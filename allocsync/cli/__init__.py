"""The command line: parses arguments, runs a command, prints its result and sets the exit code."""
