"""Connections to MySQL: the stream, the clock, the checks, consistent views."""
