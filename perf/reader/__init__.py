"""Benchmarks of one reader process, next to what other code does."""
