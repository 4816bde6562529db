"""Feeds: how fast they are read, what they cost the stores, and whether each page is true."""
