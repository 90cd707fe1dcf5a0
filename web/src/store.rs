//! The queries of the app. Reads are Diesel's; each write is one statement, so that the effect, the
//! idempotency key and the saved response are one transaction of one round trip.

use diesel::deserialize::QueryableByName;
use diesel::pg::Pg;
use diesel::prelude::PgTextExpressionMethods;
use diesel::prelude::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::OffsetDateTime;

use crate::db::Operation;
use crate::models::{User, ValidUser};
use crate::schema::{idempotency_keys, users};

/// An idempotency key and the request that it stands for. The same key with another fingerprint is a client's mistake.
#[derive(Debug, Clone)]
pub struct Key {
    /// The client's key, or one made for this request.
    pub key: String,
    /// The digest of method, path and content.
    pub fingerprint: [u8; 32],
}

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The write took place, now or under the same key before. The user is as it was right after the write, or
    /// right before where it was removed.
    Done {
        /// The user.
        user: User,
        /// Whether the write took place before.
        replayed: bool,
    },
    /// Another user has the address.
    EmailTaken,
    /// The user does not exist.
    Missing,
    /// The user was changed since the client last saw it.
    Changed,
    /// The key belongs to another request.
    KeyReused,
}

/// The versions that a change is tied to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// The versions of which the user must have one; `None` for any.
    pub only: Option<Vec<OffsetDateTime>>,
    /// The versions of which the user must have none.
    pub unless: Vec<OffsetDateTime>,
}

/// A change of the users.
#[derive(Debug, Clone)]
pub enum Change {
    /// A registration.
    Create(ValidUser),
    /// A replacement of name, address and gender.
    Update {
        /// The user's number.
        id: i64,
        /// The new name, address and gender.
        user: ValidUser,
        /// The versions that the client last saw: another one is not changed.
        condition: Condition,
    },
    /// A removal.
    Delete {
        /// The user's number.
        id: i64,
        /// The versions that the client last saw: another one is not removed.
        condition: Condition,
    },
}

/// A change under a key.
#[derive(Debug, Clone)]
pub struct Write {
    /// The change.
    pub change: Change,
    /// The key.
    pub key: Key,
}

impl Operation for Write {
    type Out = WriteOutcome;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<WriteOutcome> {
        // All rows are read, to the end: only then has the transaction ended.
        let done = match &self.change {
            Change::Create(user) => Create { user, key: &self.key }.load::<User>(conn).await,
            Change::Update { id, user, condition } => {
                Update { id: *id, user, condition, key: &self.key }.load::<User>(conn).await
            }
            Change::Delete { id, condition } => Delete { id: *id, condition, key: &self.key }.load::<User>(conn).await,
        };
        let taken = match done {
            Ok(users) => match users.into_iter().next() {
                Some(user) => return Ok(WriteOutcome::Done { user, replayed: false }),
                None => false,
            },
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, info)) => {
                info.constraint_name() == Some("users_email_key")
            }
            Err(e) => return Err(e),
        };
        // Nothing took place: perhaps because it already has.
        if let Some(before) = replay(conn, &self.key).await? {
            return Ok(before);
        }
        match &self.change {
            _ if taken => Ok(WriteOutcome::EmailTaken),
            Change::Update { id, .. } | Change::Delete { id, .. } if exists(conn, *id).await? => {
                Ok(WriteOutcome::Changed)
            }
            // The key was in the way and is gone: it aged in this very moment.
            Change::Create(_) => Ok(WriteOutcome::KeyReused),
            Change::Update { .. } | Change::Delete { .. } => Ok(WriteOutcome::Missing),
        }
    }
}

/// Reads the response saved under the key, if there is one.
///
/// The statement is an update, and not a plain read, for its commit waits for the standby: the effect
/// may have survived a crash on the primary alone, and is acknowledged only when it is safe.
async fn replay(conn: &mut AsyncPgConnection, key: &Key) -> QueryResult<Option<WriteOutcome>> {
    let saved: Vec<(Vec<u8>, String)> = diesel::update(idempotency_keys::table.find(&key.key))
        .set(idempotency_keys::replays.eq(idempotency_keys::replays + 1))
        .returning((idempotency_keys::fingerprint, idempotency_keys::response))
        .load(conn)
        .await?;
    let Some((fingerprint, response)) = saved.into_iter().next() else { return Ok(None) };
    if fingerprint != key.fingerprint {
        return Ok(Some(WriteOutcome::KeyReused));
    }
    let user = serde_json::from_str(&response).map_err(|e| Error::DeserializationError(e.into()))?;
    Ok(Some(WriteOutcome::Done { user, replayed: true }))
}

async fn exists(conn: &mut AsyncPgConnection, id: i64) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(users::table.find(id))).get_result(conn).await
}

/// The columns in the order of [`User`].
const COLUMNS: &str = "id, name, email, gender, created_at, updated_at";

/// Writes `, k AS (INSERT the key and the response, made from u) SELECT u`.
fn with_key<'b>(out: &mut AstPass<'_, 'b, Pg>, key: &'b Key, status: &str) -> QueryResult<()> {
    out.push_sql(" RETURNING ");
    out.push_sql(COLUMNS);
    out.push_sql("), k AS (INSERT INTO idempotency_keys (key, fingerprint, status, response) SELECT ");
    out.push_bind_param::<Text, _>(&key.key)?;
    out.push_sql(", ");
    out.push_bind_param::<Binary, _>(&key.fingerprint)?;
    out.push_sql(", ");
    out.push_sql(status);
    out.push_sql(", row_to_json(u)::text FROM u) SELECT ");
    out.push_sql(COLUMNS);
    out.push_sql(" FROM u");
    Ok(())
}

/// Writes the versions that the user may have, after `WHERE …`.
fn with_condition<'b>(out: &mut AstPass<'_, 'b, Pg>, condition: &'b Condition) -> QueryResult<()> {
    // Without a list the comparison is NULL, which is not false.
    out.push_sql(" AND (updated_at = ANY (");
    out.push_bind_param::<Nullable<Array<Timestamptz>>, _>(&condition.only)?;
    out.push_sql(")) IS NOT FALSE AND updated_at <> ALL (");
    out.push_bind_param::<Array<Timestamptz>, _>(&condition.unless)?;
    out.push_sql(")");
    Ok(())
}

type UserSqlType = (BigInt, Text, Text, Text, Timestamptz, Timestamptz);

#[derive(Debug, Clone, Copy)]
struct Create<'a> {
    user: &'a ValidUser,
    key: &'a Key,
}

impl QueryId for Create<'_> {
    type QueryId = Create<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Create<'_> {
    type SqlType = UserSqlType;
}

impl QueryFragment<Pg> for Create<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH u AS (INSERT INTO users (name, email, gender) VALUES (");
        out.push_bind_param::<Text, str>(self.user.name())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, str>(self.user.email())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, str>(self.user.gender().as_str())?;
        out.push_sql(")");
        with_key(&mut out, self.key, "201")
    }
}

#[derive(Debug, Clone, Copy)]
struct Update<'a> {
    id: i64,
    user: &'a ValidUser,
    condition: &'a Condition,
    key: &'a Key,
}

impl QueryId for Update<'_> {
    type QueryId = Update<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Update<'_> {
    type SqlType = UserSqlType;
}

impl QueryFragment<Pg> for Update<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH u AS (UPDATE users SET updated_at = now(), name = ");
        out.push_bind_param::<Text, str>(self.user.name())?;
        out.push_sql(", email = ");
        out.push_bind_param::<Text, str>(self.user.email())?;
        out.push_sql(", gender = ");
        out.push_bind_param::<Text, str>(self.user.gender().as_str())?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.id)?;
        with_condition(&mut out, self.condition)?;
        with_key(&mut out, self.key, "200")
    }
}

#[derive(Debug, Clone, Copy)]
struct Delete<'a> {
    id: i64,
    condition: &'a Condition,
    key: &'a Key,
}

impl QueryId for Delete<'_> {
    type QueryId = Delete<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Delete<'_> {
    type SqlType = UserSqlType;
}

impl QueryFragment<Pg> for Delete<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH u AS (DELETE FROM users WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.id)?;
        with_condition(&mut out, self.condition)?;
        with_key(&mut out, self.key, "204")
    }
}

/// The query for one user, by number.
#[derive(Debug, Clone, Copy)]
pub struct Find(pub i64);

impl Operation for Find {
    type Out = Option<User>;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Option<User>> {
        users::table.find(self.0).select(User::as_select()).first(conn).await.optional()
    }
}

/// The place in the list to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListPosition {
    /// The newest user.
    Start,
    /// The users registered before this one.
    Before(i64),
    /// The users registered after this one, the nearest to it.
    After(i64),
}

/// The query for a page of the list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List {
    /// A part of a name or an address; empty for all.
    pub search: String,
    /// The place to read from.
    pub from: ListPosition,
    /// The users at most.
    pub limit: u16,
}

/// The users of a page, and whether there are more in either direction.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The users, newest first.
    pub users: Vec<User>,
    /// Whether there are newer ones.
    pub newer: bool,
    /// Whether there are older ones.
    pub older: bool,
}

impl Operation for List {
    type Out = Page;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Page> {
        // One more than is shown tells whether there are more.
        let query = users::table.select(User::as_select()).limit(i64::from(self.limit) + 1);
        let pattern = format!("%{}%", escape_like(&self.search));
        let hit = || users::name.ilike(pattern.clone()).or(users::email.ilike(pattern.clone()));
        let (before, after) = (|id| users::id.lt(id), |id| users::id.gt(id));
        let newest_first = query.order(users::id.desc());
        let mut users = match (self.from, self.search.is_empty()) {
            (ListPosition::Start, true) => newest_first.load(conn).await?,
            (ListPosition::Start, false) => newest_first.filter(hit()).load(conn).await?,
            (ListPosition::Before(id), true) => newest_first.filter(before(id)).load(conn).await?,
            (ListPosition::Before(id), false) => newest_first.filter(before(id)).filter(hit()).load(conn).await?,
            (ListPosition::After(id), true) => query.order(users::id.asc()).filter(after(id)).load(conn).await?,
            (ListPosition::After(id), false) => {
                query.order(users::id.asc()).filter(after(id)).filter(hit()).load(conn).await?
            }
        };
        let more = users.len() > usize::from(self.limit);
        users.truncate(self.limit.into());
        Ok(match self.from {
            ListPosition::Start => Page { users, newer: false, older: more },
            ListPosition::Before(_) => Page { users, newer: true, older: more },
            ListPosition::After(_) => {
                users.reverse();
                Page { users, newer: more, older: true }
            }
        })
    }
}

/// Makes the characters that `LIKE` gives a meaning ordinary ones. NUL is left out: PostgreSQL
/// takes it in no text, and would refuse the query.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| *c != '\0') {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

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

/// The removal of keys and rate windows that have aged; it returns how many keys went.
#[derive(Debug, Clone, Copy)]
pub struct Expire;

impl Operation for Expire {
    type Out = usize;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<usize> {
        diesel::sql_query("DELETE FROM request_rates WHERE window_start < now() - interval '1 minute'")
            .execute(conn)
            .await?;
        // In portions, and passing over rows that another pod removes right now.
        diesel::sql_query(
            "DELETE FROM idempotency_keys WHERE key IN (SELECT key FROM idempotency_keys \
             WHERE created_at < now() - interval '24 hours' LIMIT 5000 FOR UPDATE SKIP LOCKED)",
        )
        .execute(conn)
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::escape_like;

    #[test]
    fn a_pattern_is_taken_literally() {
        assert_eq!(escape_like(r"100%_a\b"), r"100\%\_a\\b");
        assert_eq!(escape_like("a\0b"), "ab");
    }
}
