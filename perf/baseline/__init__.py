"""The honest "before": the reader's answers, byte for byte, from MySQL alone or with an ordinary cache before it."""
