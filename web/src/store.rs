//! The queries. Reads are Diesel's; each write is one statement, so that the effect, the
//! idempotency key and the saved response are one transaction of one round trip.

use diesel::deserialize::QueryableByName;
use diesel::pg::Pg;
use diesel::prelude::PgTextExpressionMethods;
use diesel::prelude::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::OffsetDateTime;

use crate::db::Operation;
use crate::models::{User, ValidUser};
use crate::schema::{idempotency_keys, users};

/// What a key stands for. The same key with another fingerprint is a client's mistake.
#[derive(Debug, Clone)]
pub struct Key {
    /// The client's, or one made for this request.
    pub key: String,
    /// Digest of method, path and content.
    pub fingerprint: [u8; 32],
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It took place, now or under the same key before. The user is as it was right after
    /// (before, where it was removed).
    Done {
        /// The user.
        user: User,
        /// It took place before.
        replayed: bool,
    },
    /// Another user has the address.
    EmailTaken,
    /// There is no such user.
    Missing,
    /// The user was changed since the client last saw it.
    Changed,
    /// The key belongs to another request.
    KeyReused,
}

/// What to do to the users.
#[derive(Debug, Clone)]
pub enum Change {
    /// Register.
    Create(ValidUser),
    /// Replace name, address and gender.
    Update {
        /// Whose.
        id: i64,
        /// The new ones.
        user: ValidUser,
        /// Only if it was last changed then.
        if_version: Option<OffsetDateTime>,
    },
    /// Remove.
    Delete {
        /// Whom.
        id: i64,
    },
}

/// A change under a key.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to do.
    pub change: Change,
    /// Under which key.
    pub key: Key,
}

impl Operation for Write {
    type Out = Written;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Written> {
        // All rows are read, to the end: only then has the transaction ended.
        let done = match &self.change {
            Change::Create(user) => Create { user, key: &self.key }.load::<User>(conn).await,
            Change::Update { id, user, if_version } => {
                Update { id: *id, user, if_version: *if_version, key: &self.key }.load::<User>(conn).await
            }
            Change::Delete { id } => Delete { id: *id, key: &self.key }.load::<User>(conn).await,
        };
        let taken = match done {
            Ok(users) => match users.into_iter().next() {
                Some(user) => return Ok(Written::Done { user, replayed: false }),
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
            _ if taken => Ok(Written::EmailTaken),
            Change::Update { id, .. } if exists(conn, *id).await? => Ok(Written::Changed),
            // The key was in the way and is gone: it aged in this very moment.
            Change::Create(_) => Ok(Written::KeyReused),
            Change::Update { .. } | Change::Delete { .. } => Ok(Written::Missing),
        }
    }
}

/// The response saved under the key, if there is one.
///
/// It is an update, and not a plain read, for its commit waits for the standby: the effect
/// may have survived a crash on the primary alone, and is acknowledged only when it is safe.
async fn replay(conn: &mut AsyncPgConnection, key: &Key) -> QueryResult<Option<Written>> {
    let saved: Vec<(Vec<u8>, String)> = diesel::update(idempotency_keys::table.find(&key.key))
        .set(idempotency_keys::replays.eq(idempotency_keys::replays + 1))
        .returning((idempotency_keys::fingerprint, idempotency_keys::response))
        .load(conn)
        .await?;
    let Some((fingerprint, response)) = saved.into_iter().next() else { return Ok(None) };
    if fingerprint != key.fingerprint {
        return Ok(Some(Written::KeyReused));
    }
    let user = serde_json::from_str(&response).map_err(|e| Error::DeserializationError(e.into()))?;
    Ok(Some(Written::Done { user, replayed: true }))
}

async fn exists(conn: &mut AsyncPgConnection, id: i64) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(users::table.find(id))).get_result(conn).await
}

/// Columns in the order of [`User`].
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
    if_version: Option<OffsetDateTime>,
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
        out.push_sql(" AND updated_at = coalesce(");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.if_version)?;
        out.push_sql(", updated_at)");
        with_key(&mut out, self.key, "200")
    }
}

#[derive(Debug, Clone, Copy)]
struct Delete<'a> {
    id: i64,
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
        with_key(&mut out, self.key, "204")
    }
}

/// One user, by number.
#[derive(Debug, Clone, Copy)]
pub struct Find(pub i64);

impl Operation for Find {
    type Out = Option<User>;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Option<User>> {
        users::table.find(self.0).select(User::as_select()).first(conn).await.optional()
    }
}

/// From where in the list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum From {
    /// The newest.
    Start,
    /// Those registered before this one.
    Before(i64),
    /// Those registered after this one, the nearest to it.
    After(i64),
}

/// A page of the list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List {
    /// Part of a name or an address; empty for all.
    pub search: String,
    /// From where.
    pub from: From,
    /// How many at most.
    pub limit: u16,
}

/// Users of a page, and whether there are more in either direction.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Newest first.
    pub users: Vec<User>,
    /// There are newer ones.
    pub newer: bool,
    /// There are older ones.
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
            (From::Start, true) => newest_first.load(conn).await?,
            (From::Start, false) => newest_first.filter(hit()).load(conn).await?,
            (From::Before(id), true) => newest_first.filter(before(id)).load(conn).await?,
            (From::Before(id), false) => newest_first.filter(before(id)).filter(hit()).load(conn).await?,
            (From::After(id), true) => query.order(users::id.asc()).filter(after(id)).load(conn).await?,
            (From::After(id), false) => query.order(users::id.asc()).filter(after(id)).filter(hit()).load(conn).await?,
        };
        let more = users.len() > usize::from(self.limit);
        users.truncate(self.limit.into());
        Ok(match self.from {
            From::Start => Page { users, newer: false, older: more },
            From::Before(_) => Page { users, newer: true, older: more },
            From::After(_) => {
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

/// What a standby says about itself.
#[derive(Debug, Clone, QueryableByName)]
pub struct StandbyState {
    /// Its own address, or `local`.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// It replays another's log: it is a standby indeed.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    pub recovering: bool,
    /// Bytes received and not replayed yet.
    #[diesel(sql_type = BigInt)]
    pub behind_bytes: i64,
}

/// Asks a standby how it is.
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

/// Removes keys and rate windows that have aged; returns how many keys went.
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
