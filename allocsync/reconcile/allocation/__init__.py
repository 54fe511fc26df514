"""One managed allocation: what was sent to it, what became of that, and what happens next. Pure."""
