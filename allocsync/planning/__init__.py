"""What should change: values in, a plan out. PURE: no I/O, clock, chance, logging or framework (checked)."""
