"""Code that Tidemark's services share; it knows no driver and imports no service."""
