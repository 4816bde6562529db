"""Live reads: every read can be watched, over server-sent events or a WebSocket."""
