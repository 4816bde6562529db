"""The command side: HTTP writes become MySQL transactions."""
