"""The journal: the durable record of every update, before it leaves and after, in one SQLite file."""
