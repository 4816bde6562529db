"""Benchmarks of watched reads: how soon thousands of clients see a change, and whether they see them all."""
