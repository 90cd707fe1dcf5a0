-- In the place of the BRIN index of 000002, which tells nothing any more once the space of removed keys is used again.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created_at);
