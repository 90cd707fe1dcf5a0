//! The queries of the app. Reads are Diesel's; each write is one statement, so that the effect, the
//! idempotency key and the saved response are one transaction of one round trip.

mod chores;
mod list;

use diesel::pg::Pg;
use diesel::prelude::{ExpressionMethods, QueryDsl};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::OffsetDateTime;

pub use chores::{
    AskStandby, BATCH, CountRows, Expire, ExpireRates, ExpireUnkeyed, RowCounts, StandbyState, TrimClients, TrimKeys,
};
pub use list::{Find, List, ListPosition, Page};

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
    /// Who sent it; empty where the app made it for a request that had none.
    pub client: String,
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
            Change::Update { id, .. } | Change::Delete { id, .. } if !exists(conn, *id).await? => {
                Ok(WriteOutcome::Missing)
            }
            Change::Create(user) if alias_taken(conn, user, 0).await? => Ok(WriteOutcome::EmailTaken),
            Change::Update { id, user, .. } if alias_taken(conn, user, *id).await? => Ok(WriteOutcome::EmailTaken),
            // The key was in the way and is gone: it aged in this very moment.
            Change::Create(_) => Ok(WriteOutcome::KeyReused),
            Change::Update { .. } | Change::Delete { .. } => Ok(WriteOutcome::Changed),
        }
    }
}

/// Tells whether a user other than this one has the address with its domain in ASCII.
async fn alias_taken(conn: &mut AsyncPgConnection, user: &ValidUser, id: i64) -> QueryResult<bool> {
    let Some(ascii) = user.email().in_ascii().as_ref() else { return Ok(false) };
    let lower = |text| diesel::dsl::sql::<Text>("lower(").bind::<Text, _>(text).sql(")");
    let taken = users::table
        .filter(users::id.ne(id))
        .filter(diesel::dsl::sql::<Text>("lower(email)").eq(lower(ascii.to_owned())));
    diesel::select(diesel::dsl::exists(taken)).get_result(conn).await
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
    out.push_sql("), k AS (INSERT INTO idempotency_keys (key, fingerprint, client, status, response) SELECT ");
    out.push_bind_param::<Text, _>(&key.key)?;
    out.push_sql(", ");
    out.push_bind_param::<Binary, _>(&key.fingerprint)?;
    out.push_sql(", ");
    out.push_bind_param::<Text, _>(&key.client)?;
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

/// Writes that nobody has the address with its domain in ASCII, as users of older versions of this program may.
fn with_free_alias<'b>(out: &mut AstPass<'_, 'b, Pg>, user: &'b ValidUser) -> QueryResult<()> {
    out.push_sql("NOT EXISTS (SELECT FROM users taken WHERE lower(taken.email) = lower(");
    out.push_bind_param::<Nullable<Text>, _>(user.email().in_ascii())?;
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
        out.push_sql("WITH u AS (INSERT INTO users (name, email, gender) SELECT ");
        out.push_bind_param::<Text, str>(self.user.name())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, str>(self.user.email().as_str())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, str>(self.user.gender().as_str())?;
        out.push_sql(" WHERE ");
        with_free_alias(&mut out, self.user)?;
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
        out.push_bind_param::<Text, str>(self.user.email().as_str())?;
        out.push_sql(", gender = ");
        out.push_bind_param::<Text, str>(self.user.gender().as_str())?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.id)?;
        with_condition(&mut out, self.condition)?;
        out.push_sql(" AND ");
        with_free_alias(&mut out, self.user)?;
        out.push_sql(" AND NOT taken.id = users.id)");
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
