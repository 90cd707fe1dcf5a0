-- The planner knows what is in the search index of 000005.
ANALYZE users;

-- Who sent a key: a digest of the client's network, '' where the app made the key for a request that had none, and NULL
-- where the version before wrote it. The keys of one client are bounded, and a key that nobody knows goes soon.
ALTER TABLE idempotency_keys ADD COLUMN client text;
