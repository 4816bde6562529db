"""The read contract: the projector writes by it, the reader reads by it. It does no I/O."""
