"""Connections to MySQL: the stream, the clock, the checks and the consistent snapshots."""
