"""Benchmarks of the projector, and the page that holds their figures."""
