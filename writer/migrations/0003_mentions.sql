-- Who is mentioned where. comment_id is NULL for a mention in the post itself.
CREATE TABLE mentions (
    user_id BIGINT UNSIGNED NOT NULL,
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    author_id BIGINT UNSIGNED NOT NULL,
    post_id BIGINT UNSIGNED NOT NULL,
    comment_id BIGINT UNSIGNED NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (user_id, id),
    KEY mentions_id (id),
    KEY mentions_author (author_id),
    KEY mentions_post (post_id),
    KEY mentions_comment (comment_id),
    CONSTRAINT mentions_of_others CHECK (user_id <> author_id),
    CONSTRAINT mentions_user_fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT mentions_author_fk FOREIGN KEY (author_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT mentions_post_fk FOREIGN KEY (post_id) REFERENCES posts (id) ON DELETE RESTRICT,
    CONSTRAINT mentions_comment_fk FOREIGN KEY (comment_id) REFERENCES comments (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

-- Up to when each user has read the notifications.
CREATE TABLE notification_reads (
    user_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    until DATETIME(6) NOT NULL,
    CONSTRAINT notification_reads_user_fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;
