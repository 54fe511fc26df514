"""One allocation: what was sent, what became of it, and what is decided next. Pure."""
