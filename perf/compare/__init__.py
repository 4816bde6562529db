"""Before and after: the same reads straight from MySQL, with an ordinary cache, and through Tidemark, in one run."""
