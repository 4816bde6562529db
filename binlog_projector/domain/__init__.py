"""The meaning of a change: pure functions and frozen values."""
