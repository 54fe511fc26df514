"""Both ends of the Allocation API: the client that allocsync uses and the reference server."""
