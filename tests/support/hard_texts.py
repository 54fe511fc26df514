"""Texts that YAML reads as something else, or that need quotes there."""

HARD_TEXTS = (
    *("1.10", "no", "yes", "~", "null", "", "0x1F", "1e3", "2026-11-23", "12:30:45", "tr\tue"),
    *("<<", "- a", "a: b", "a:", "#", "*a", "&a", "!t", "%", "@", "`", "{a", "[a", "|", ">", "?"),
    *('"', "'", "\\\\", " a", "a "),
    *("\n", "\x85", "\u2028", "\0", "\ufeff", "\U0001f600"),
)
