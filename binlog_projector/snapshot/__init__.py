"""The first copy of MySQL's tables into a new build."""
