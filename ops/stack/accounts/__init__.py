"""The accounts of the services on any server, each with the least rights it needs."""
