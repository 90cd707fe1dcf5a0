-- Substring search on name and address. pg_trgm is a trusted extension: the database's
-- owner may create it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE INDEX users_search ON users USING gin (name gin_trgm_ops, email gin_trgm_ops);

-- Requests by client in fixed windows, summed over all pods. UNLOGGED: its writes wait for
-- no standby and no disk, and a promoted standby starts with it empty, which only forgives.
CREATE UNLOGGED TABLE request_rates (
    client       text        NOT NULL,
    window_start timestamptz NOT NULL,
    requests     bigint      NOT NULL,
    PRIMARY KEY (client, window_start)
);
