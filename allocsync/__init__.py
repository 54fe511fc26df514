"""allocsync keeps the allocations behind an Allocation API the way a YAML file says they should be.

The story by folder: `desired` reads YAML into a generation; `planning` compares it with what is live
(pure: it cannot touch the world); `reconcile` decides for each allocation when to look and what may be
sent; `api` is both ends of the wire; `observe` says what happened; `daemon` is the only place that wires
these together; `cli` has one file per command.
"""

__version__ = "0.1.0"
