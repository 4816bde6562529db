"""Local servers: start, wait, stop, kill, pause."""
