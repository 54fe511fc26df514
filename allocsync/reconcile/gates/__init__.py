"""What forbids updates from outside: pauses, write windows, the write quota, the change limit. Pure."""
