-- With checks, MySQL would copy the table, and writers would wait. All values are still NULL.
SET foreign_key_checks = 0;
ALTER TABLE likes
    ADD KEY likes_post_author (post_author_id, post_id),
    ADD CONSTRAINT likes_post_author_fk FOREIGN KEY (post_author_id, post_id)
        REFERENCES posts (author_id, id) ON DELETE RESTRICT,
    ALGORITHM = INPLACE, LOCK = NONE;
SET foreign_key_checks = 1;
