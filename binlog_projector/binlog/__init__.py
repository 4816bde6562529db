"""The row binlog: bytes in, transactions out."""
