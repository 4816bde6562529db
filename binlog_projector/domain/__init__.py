"""What a change means: pure functions and frozen values."""
