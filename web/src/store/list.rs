//! One user, the list, and the search.
//!
//! Text is compared as `search_fold` of the migrations has it: in every script without regard to case and accents.

use diesel::prelude::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::COLUMNS;
use crate::db::{Operation, Work};
use crate::models::User;
use crate::schema::users;

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

    fn reading(&self) -> Work {
        if self.search.is_empty() { Work::Read } else { Work::Search }
    }

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Page> {
        let mut users = if self.search.is_empty() { self.all(conn).await? } else { self.matching(conn).await? };
        let more = users.len() >= self.wanted();
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

/// The users next to the place in the list among whom a search looks first. What many have is found among few; what
/// nobody of the first has is left to the index, which is slow only for what many have.
const WINDOWS: [u32; 2] = [500, 10_000];

impl List {
    /// The users to ask for: one more than is shown tells whether there are more.
    fn wanted(&self) -> usize {
        usize::from(self.limit) + 1
    }

    async fn all(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<User>> {
        let query = users::table.select(User::as_select()).limit(i64::from(self.limit) + 1);
        match self.from {
            ListPosition::Start => query.order(users::id.desc()).load(conn).await,
            ListPosition::Before(id) => query.order(users::id.desc()).filter(users::id.lt(id)).load(conn).await,
            ListPosition::After(id) => query.order(users::id.asc()).filter(users::id.gt(id)).load(conn).await,
        }
    }

    async fn matching(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<User>> {
        let (bound, order) = match self.from {
            ListPosition::After(_) => ("id > $2", "ASC"),
            ListPosition::Start | ListPosition::Before(_) => ("id < $2", "DESC"),
        };
        for window in WINDOWS {
            let nearest = format!("(SELECT * FROM users WHERE {bound} ORDER BY id {order} LIMIT {window}) AS nearest");
            let found = self.search(conn, &nearest, bound, order).await?;
            if found.len() >= self.wanted() {
                return Ok(found);
            }
            if found.is_empty() {
                break;
            }
        }
        let indexed =
            "(SELECT * FROM users WHERE search_grams(name, email) @> search_terms(search_fold($1))) AS indexed";
        self.search(conn, indexed, bound, order).await
    }

    /// Searches among these users.
    async fn search(
        &self,
        conn: &mut AsyncPgConnection,
        among: &str,
        bound: &str,
        order: &str,
    ) -> QueryResult<Vec<User>> {
        let found = "LIKE search_pattern(search_fold($1))";
        // By an expression, so that the planner does not read the whole table in the order of its key and filter it.
        let query = format!(
            "SELECT {COLUMNS} FROM {among} WHERE {bound} AND (search_fold(name) {found} OR search_fold(email) {found}) \
             ORDER BY id + 0 {order} LIMIT {}",
            self.wanted()
        );
        let place = match self.from {
            ListPosition::Start => i64::MAX,
            ListPosition::Before(id) | ListPosition::After(id) => id,
        };
        // PostgreSQL takes NUL in no text, and would refuse the query.
        let search = self.search.replace('\0', "");
        diesel::sql_query(query).bind::<Text, _>(search).bind::<BigInt, _>(place).load(conn).await
    }
}
