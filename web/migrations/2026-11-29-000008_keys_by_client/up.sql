CREATE INDEX CONCURRENTLY IF NOT EXISTS idempotency_keys_by_client ON idempotency_keys (client, created_at);
