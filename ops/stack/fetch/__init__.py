"""Programs, from PATH or downloaded, verified and unpacked into the cache."""
