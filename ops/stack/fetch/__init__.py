"""Programs: found on PATH, or downloaded, verified and unpacked into the cache."""
