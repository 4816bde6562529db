"""The projector's page for people."""
