"""What the controller reports of itself and of each allocation. Pure."""
