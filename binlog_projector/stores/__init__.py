"""All of PyMongo and redis-py."""
