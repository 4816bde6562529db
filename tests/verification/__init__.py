"""Promises under faults: the checker of the protocol, schedules, faults on real servers, torture."""
