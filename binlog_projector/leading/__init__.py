"""The loop that projects, and who may run it."""
