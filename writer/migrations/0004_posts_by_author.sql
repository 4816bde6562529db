-- A foreign key to (author_id, id) needs a UNIQUE key. The key also does what posts_author did.
ALTER TABLE posts
    ADD UNIQUE KEY posts_author_id (author_id, id),
    DROP KEY posts_author,
    ALGORITHM = INPLACE, LOCK = NONE;
