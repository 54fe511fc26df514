"""What prevents updates besides API responses: approval, pauses, write windows and the write quota. Pure."""
