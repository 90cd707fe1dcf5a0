//! The list, as the list page and the API have it in common: how an address asks for a part of the list, and
//! one query and one rendering for all that ask for the same part at the same moment.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Bytes, Query};

use super::position;
use crate::app::{App, Question, Rendered, Shared};
use crate::db::{DbError, Read};
use crate::gather::Gather;
use crate::store::{List, ListPosition, Page};

/// The users of a list at most.
pub const MAX_LIMIT: u16 = 100;

/// Tells whether a form or a query, decoded, is text in UTF-8.
pub fn is_text(encoded: &str) -> bool {
    percent_encoding::percent_decode_str(encoded).decode_utf8().is_ok()
}

/// Reads an address's query. What can't be read is passed over, and the second value says what that is:
/// programs are told, people get the list.
pub fn parse(query: &str, default_limit: u16) -> (List, Option<String>) {
    let mut list = List { search: String::new(), from: ListPosition::Start, limit: default_limit };
    let fields = match Query::<Vec<(String, String)>>::from_query(query) {
        Ok(fields) => fields.into_inner(),
        Err(e) => return (list, Some(e.to_string())),
    };
    let mut wrong = (!is_text(query)).then(|| "The query is not text in UTF-8.".to_owned());
    for (name, value) in fields {
        match (name.as_str(), value.parse::<i64>()) {
            ("q", _) => value.trim().clone_into(&mut list.search),
            ("before" | "after", Ok(_)) if list.from != ListPosition::Start => {
                wrong = Some("Give before or after, not both.".into());
            }
            ("before", Ok(id)) => list.from = ListPosition::Before(id),
            ("after", Ok(id)) => list.from = ListPosition::After(id),
            ("limit", Ok(limit)) if (1..=i64::from(MAX_LIMIT)).contains(&limit) => {
                list.limit = u16::try_from(limit).unwrap_or(MAX_LIMIT);
            }
            ("limit", _) => wrong = Some(format!("limit must be between 1 and {MAX_LIMIT}.")),
            ("before" | "after", Err(_)) => wrong = Some(format!("{name} must be the number of a user.")),
            _ => wrong = Some("The parameters are q, before, after and limit.".into()),
        }
    }
    (list, wrong)
}

/// Reads the list and renders it, once for all that wait for it in `gather`.
pub async fn ask(
    app: &App,
    req: &HttpRequest,
    gather: &Gather<Question, Rendered>,
    list: List,
    render: fn(&Shared, &List, &Read<Page>) -> Result<Bytes, DbError>,
) -> Rendered {
    let (db, shared) = (Rc::clone(&app.db), Arc::clone(&app.shared));
    let since = app.db.needed(position::of(req, &app.shared));
    let query = move |(list, since): Question| {
        let (db, shared) = (Rc::clone(&db), Arc::clone(&shared));
        async move {
            let read = db.read_list(list.clone(), since).await?;
            Ok((render(&shared, &list, &read)?, read.stale))
        }
    };
    gather.ask((list, since), query).await.unwrap_or_else(|| Err(DbError::Fault("the query panicked".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_kept_and_the_rest_is_told() {
        let (list, wrong) = parse("q=+Ada%20&before=7&limit=3", 25);
        assert_eq!((list, wrong), (List { search: "Ada".into(), from: ListPosition::Before(7), limit: 3 }, None));
        let start = |limit| List { search: String::new(), from: ListPosition::Start, limit };
        assert_eq!(parse("", 25), (start(25), None));
        for (query, told) in [("limit=0", "limit"), ("before=x", "before"), ("page=2", "parameters"), ("a", "param")] {
            let (list, wrong) = parse(query, 25);
            assert!(list == start(25) && wrong.as_ref().is_some_and(|w| w.contains(told)), "{query}: {wrong:?}");
        }
        let (list, wrong) = parse("after=1&before=2&q=x", 25);
        assert_eq!((list.from, list.search.as_str(), wrong.is_some()), (ListPosition::After(1), "x", true));
    }
}
