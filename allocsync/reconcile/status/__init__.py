"""What the controller says of itself and of each allocation. Pure."""
