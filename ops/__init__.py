"""Operations: what runs, watches and checks Tidemark from the outside."""
