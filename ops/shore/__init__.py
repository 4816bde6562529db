"""The page of `make run`."""
