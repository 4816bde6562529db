-- 3,000 likes and 400 comments are less than the projector applies in one batch (4,000 rows, 4 MiB).
UPDATE likes SET post_author_id = (SELECT author_id FROM posts WHERE posts.id = likes.post_id)
    WHERE post_author_id IS NULL LIMIT 3000;
UPDATE comments SET updated_at = updated_at,
    post_author_id = (SELECT author_id FROM posts WHERE posts.id = comments.post_id)
    WHERE post_author_id IS NULL LIMIT 400;
ALTER TABLE likes MODIFY COLUMN post_author_id BIGINT UNSIGNED NOT NULL, ALGORITHM = INPLACE, LOCK = NONE;
ALTER TABLE comments MODIFY COLUMN post_author_id BIGINT UNSIGNED NOT NULL, ALGORITHM = INPLACE, LOCK = NONE;
