-- Deleted users of whom rows are left; not projected. While a row is here, its subject cannot come back.
CREATE TABLE user_deletions (
    user_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    subject VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    KEY user_deletions_subject (subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;
