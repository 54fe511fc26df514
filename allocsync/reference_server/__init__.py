"""The reference Allocation API: a real HTTP server that follows the API, and breaks it on demand.

It is a product of its own: users test their automation against it. It shares only the JSON codec and the
model with the client.
"""

from allocsync.reference_server.server import ReferenceServer

__all__ = ["ReferenceServer"]
