-- A write's key, written in the transaction of its effect. Whoever sends the key again,
-- through whichever pod, gets the saved response and no second effect.
CREATE TABLE idempotency_keys (
    key         text        PRIMARY KEY CHECK (octet_length(key) BETWEEN 1 AND 128),
    fingerprint bytea       NOT NULL,
    status      smallint    NOT NULL,
    response    text        NOT NULL,
    replays     integer     NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- For the removal of the aged ones. A BRIN index costs nearly nothing on each insert.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys USING brin (created_at);
