"""The query side: reads from Redis, else MongoDB, each with a proof of how fresh it is."""
