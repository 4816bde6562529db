"""Whether the read model is right, compared with MySQL while both change."""
