"""The projector: MySQL's row binlog becomes MongoDB documents and Redis cache entries."""
