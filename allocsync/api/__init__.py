"""The client of the Allocation API."""
