"""The journal: a durable record of every update, written before and after it is sent, in one SQLite file."""
