"""The same backlog through other change-data-capture programs."""
