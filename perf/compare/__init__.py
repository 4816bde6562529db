"""Before and after in one run: the same reads from MySQL, with an ordinary cache, and through Tidemark."""
