"""How hot a post is. Another ranking needs another `hot` alone; docs/feeds.md gives the reasons."""

from __future__ import annotations

SECONDS_OF_AN_EIGHTH = 1_693  # ten times the points are then worth 45,000 s


def hot(created_at: int, likes: int, comments: int) -> int:
    """The rank of a post, the greatest first. `created_at`: in seconds since 1970.

    Each doubling of the points counts as if the post were 8 eighths younger.
    """
    points = max(1, 1 + likes + 2 * comments)
    doublings = points.bit_length() - 1
    eighths = 8 * doublings + (8 * points >> doublings) - 8  # a straight line between two doublings
    return created_at + SECONDS_OF_AN_EIGHTH * eighths
