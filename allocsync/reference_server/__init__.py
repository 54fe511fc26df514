"""The reference Allocation API: a real server that keeps its word, and breaks it on purpose when told to.

It is a product of its own: people test their automation against it. It shares nothing with the client but
the wire format.
"""

from allocsync.reference_server.server import ReferenceServer

__all__ = ["ReferenceServer"]
