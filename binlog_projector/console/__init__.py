"""The projector's page, readiness and metrics, for people."""
