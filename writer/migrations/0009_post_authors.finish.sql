-- Small transactions: commands on the same rows wait for their end.
UPDATE likes SET post_author_id = (SELECT author_id FROM posts WHERE posts.id = likes.post_id)
    WHERE post_author_id IS NULL LIMIT 500;
UPDATE comments SET updated_at = updated_at,
    post_author_id = (SELECT author_id FROM posts WHERE posts.id = comments.post_id)
    WHERE post_author_id IS NULL LIMIT 200;
ALTER TABLE likes MODIFY COLUMN post_author_id BIGINT UNSIGNED NOT NULL, ALGORITHM = INPLACE, LOCK = NONE;
ALTER TABLE comments MODIFY COLUMN post_author_id BIGINT UNSIGNED NOT NULL, ALGORITHM = INPLACE, LOCK = NONE;
