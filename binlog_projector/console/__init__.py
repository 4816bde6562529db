"""What people see of a projector: its page, readiness and metrics."""
