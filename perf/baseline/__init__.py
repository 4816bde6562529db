"""The honest "before": the same bytes from MySQL alone, or with an ordinary cache in front."""
