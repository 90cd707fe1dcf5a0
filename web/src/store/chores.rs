//! What is asked of the database beside requests: how a standby is, and the removal of what has aged or is too much.

use diesel::deserialize::QueryableByName;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::Operation;

/// The state of a standby, as it says itself.
#[derive(Debug, Clone, QueryableByName)]
pub struct StandbyState {
    /// The standby's own address, or `local`.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// Whether it replays another server's WAL: it is a standby indeed.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    pub recovering: bool,
    /// Bytes of WAL that were received and are not replayed yet.
    #[diesel(sql_type = BigInt)]
    pub behind_bytes: i64,
}

/// The question to a standby how it is.
#[derive(Debug, Clone, Copy)]
pub struct AskStandby;

impl Operation for AskStandby {
    type Out = Option<StandbyState>;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self::Out> {
        let states = diesel::sql_query(
            "SELECT coalesce(host(inet_server_addr()), 'local') AS address, \
                    pg_is_in_recovery() AS recovering, \
                    coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint AS behind_bytes",
        )
        .load::<StandbyState>(conn)
        .await?;
        Ok(states.into_iter().next())
    }
}

/// The rows that one removal takes at most: a statement that is short enough to be in nobody's way.
pub const BATCH: usize = 5_000;

/// The time for which a key is kept that was made for a request which had none: the request has ended long before.
const UNKEYED: &str = "2 minutes";

/// Removes the keys that a query finds, passing over those that another pod removes right now; it ends with `LIMIT` and
/// `FOR UPDATE SKIP LOCKED`.
fn delete_keys(found: &str) -> String {
    format!("DELETE FROM idempotency_keys WHERE key IN ({found} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)")
}

/// The removal of a batch of keys that are older than a day; it returns how many went.
#[derive(Debug, Clone, Copy)]
pub struct Expire;

impl Operation for Expire {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        let aged =
            "SELECT key FROM idempotency_keys WHERE created_at < now() - interval '24 hours' ORDER BY created_at";
        diesel::sql_query(delete_keys(aged)).execute(conn).await
    }
}

/// The removal of a batch of keys that no client knows; it returns how many went.
#[derive(Debug, Clone, Copy)]
pub struct ExpireUnkeyed;

impl Operation for ExpireUnkeyed {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        let aged = format!(
            "SELECT key FROM idempotency_keys WHERE client = '' AND created_at < now() - interval '{UNKEYED}' \
             ORDER BY created_at"
        );
        diesel::sql_query(delete_keys(&aged)).execute(conn).await
    }
}

/// The removal of a batch of the oldest keys, of clients that have more than this; it returns how many went.
#[derive(Debug, Clone, Copy)]
pub struct TrimClients(pub i64);

impl Operation for TrimClients {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        // The clients one by one, each by a look into the index, and where in time each has as many as it may.
        let found = delete_keys(
            "SELECT kept.key FROM ( \
                 SELECT client, (SELECT created_at FROM idempotency_keys AS one WHERE one.client = clients.client \
                                 ORDER BY created_at DESC OFFSET $1 LIMIT 1) AS last \
                 FROM clients WHERE client IS NOT NULL \
             ) AS cut JOIN idempotency_keys AS kept ON kept.client = cut.client AND kept.created_at <= cut.last",
        )
        .replace("FOR UPDATE", "FOR UPDATE OF kept");
        let query = format!(
            "WITH RECURSIVE clients AS ( \
                 (SELECT client FROM idempotency_keys WHERE client > '' ORDER BY client LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT after.client FROM idempotency_keys AS after WHERE after.client > clients.client \
                         ORDER BY after.client LIMIT 1) \
                 FROM clients WHERE client IS NOT NULL \
             ) {found}"
        );
        diesel::sql_query(query).bind::<BigInt, _>(self.0).execute(conn).await
    }
}

/// The removal of a batch of the oldest keys where there are more than this; it returns how many went.
#[derive(Debug, Clone, Copy)]
pub struct TrimKeys(pub i64);

impl Operation for TrimKeys {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        let oldest = "SELECT key FROM idempotency_keys WHERE created_at <= ( \
                          SELECT created_at FROM idempotency_keys ORDER BY created_at DESC OFFSET $1 LIMIT 1) \
                      ORDER BY created_at";
        diesel::sql_query(delete_keys(oldest)).bind::<BigInt, _>(self.0).execute(conn).await
    }
}

/// The removal of a batch of rate windows that have ended; it returns how many went.
#[derive(Debug, Clone, Copy)]
pub struct ExpireRates;

impl Operation for ExpireRates {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        diesel::sql_query(format!(
            "DELETE FROM request_rates WHERE (client, window_start) IN ( \
                 SELECT client, window_start FROM request_rates WHERE window_start < now() - interval '1 minute' \
                 LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
        ))
        .execute(conn)
        .await
    }
}

/// The rows of the tables that grow with requests, counted no further than to twice their limits.
#[derive(Debug, Clone, Copy)]
pub struct CountRows {
    /// The limit of the idempotency keys.
    pub keys: i64,
    /// The limit of the rate windows.
    pub rates: i64,
}

/// The outcome of [`CountRows`].
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct RowCounts {
    /// The idempotency keys.
    #[diesel(sql_type = BigInt)]
    pub keys: i64,
    /// The rate windows.
    #[diesel(sql_type = BigInt)]
    pub rates: i64,
}

impl Operation for CountRows {
    type Out = Option<RowCounts>;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self::Out> {
        let counts = diesel::sql_query(
            "SELECT (SELECT count(*) FROM (SELECT FROM idempotency_keys LIMIT $1) AS keys) AS keys, \
                    (SELECT count(*) FROM (SELECT FROM request_rates LIMIT $2) AS rates) AS rates",
        )
        .bind::<BigInt, _>(self.keys.saturating_mul(2))
        .bind::<BigInt, _>(self.rates.saturating_mul(2))
        .load::<RowCounts>(conn)
        .await?;
        Ok(counts.into_iter().next())
    }
}
