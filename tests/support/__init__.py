"""Shared by tests: processes, clients, the oracle, random work."""
