//! The domain's types. Whatever comes from outside is parsed into them once, at the edge;
//! code behind the edge can't meet an invalid name or address.

use diesel::deserialize::{FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::{Queryable, QueryableByName, Selectable};
use diesel::serialize::{Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::address::Address;
use crate::schema::users;
use crate::text;

/// A registered user, as stored and as given out by the API.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable, Serialize, Deserialize)]
#[diesel(table_name = users, check_for_backend(Pg))]
pub struct User {
    /// The number, which grows with each registration.
    pub id: i64,
    /// The name: 1 to 100 characters.
    pub name: String,
    /// The address, in normal form; unique without regard to case.
    pub email: String,
    /// The gender; it may be undisclosed.
    pub gender: Gender,
    /// The moment of the registration, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The moment of the last change, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

impl User {
    /// The user's version, microseconds since 1970 of the last change: it tells two states of one user apart.
    pub fn version(&self) -> i64 {
        micros(self.updated_at)
    }
}

/// Microseconds since 1970, PostgreSQL's own resolution.
fn micros(t: OffsetDateTime) -> i64 {
    i64::try_from(t.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// A user's gender, or that it isn't told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "lowercase")]
pub enum Gender {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Neither of the two.
    Other,
    /// Prefers not to say.
    Undisclosed,
}

impl Gender {
    /// All genders, in the order of the form.
    pub const ALL: [Self; 4] = [Self::Female, Self::Male, Self::Other, Self::Undisclosed];

    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Female => "female",
            Self::Male => "male",
            Self::Other => "other",
            Self::Undisclosed => "undisclosed",
        }
    }

    /// The words on the pages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Female => "Female",
            Self::Male => "Male",
            Self::Other => "Other",
            Self::Undisclosed => "Prefer not to say",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|g| g.as_str() == text)
    }
}

impl ToSql<Text, Pg> for Gender {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> diesel::serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.as_str(), out)
    }
}

impl FromSql<Text, Pg> for Gender {
    fn from_sql(bytes: PgValue<'_>) -> diesel::deserialize::Result<Self> {
        let text = std::str::from_utf8(bytes.as_bytes())?;
        Self::parse(text).ok_or_else(|| "unknown gender in the database".into())
    }
}

/// The fields that a client sends to register or change a user, before they are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUser {
    /// The name: any text.
    #[serde(default)]
    pub name: String,
    /// The address: any text.
    #[serde(default)]
    pub email: String,
    /// The gender: any text; left out means undisclosed.
    #[serde(default)]
    pub gender: Option<String>,
}

/// A user with a valid name, address and gender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidUser {
    name: String,
    email: Address,
    gender: Gender,
}

/// An error in one field, in words for the person who filled it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field: `name`, `email` or `gender`.
    pub field: &'static str,
    /// The error in a sentence.
    pub message: &'static str,
}

impl ValidUser {
    /// Parses the fields; every wrong field is reported, not only the first.
    pub fn parse(raw: &RawUser) -> Result<Self, Vec<FieldError>> {
        let name = parse_name(&raw.name);
        let email = Address::parse(&raw.email);
        let gender = match raw.gender.as_deref() {
            None | Some("") => Ok(Gender::Undisclosed),
            Some(text) => Gender::parse(text).ok_or("Choose one of the options."),
        };
        match (name, email, gender) {
            (Ok(name), Ok(email), Ok(gender)) => Ok(Self { name, email, gender }),
            (name, email, gender) => {
                let errors = [("name", name.err()), ("email", email.err()), ("gender", gender.err())];
                let told = |(field, m): (_, Option<_>)| m.map(|message| FieldError { field, message });
                Err(errors.into_iter().filter_map(told).collect())
            }
        }
    }

    /// The name: 1 to 100 characters, trimmed, of which at least one shows; none that can't be shown or that reorders
    /// text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address.
    pub fn email(&self) -> &Address {
        &self.email
    }

    /// The gender, or undisclosed.
    pub fn gender(&self) -> Gender {
        self.gender
    }
}

fn parse_name(raw: &str) -> Result<String, &'static str> {
    let name = raw.trim();
    match name.chars().count() {
        0 => Err("Enter a name."),
        1..=100 if name.chars().any(|c| text::is_unprintable(c) || text::is_reordering(c)) => {
            Err("The name has a character that can't be shown.")
        }
        1..=100 if !text::is_visible(name) => Err("Enter a name that can be seen."),
        1..=100 => Ok(name.to_owned()),
        _ => Err("The name may have at most 100 characters."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(name: &str, email: &str) -> RawUser {
        RawUser { name: name.into(), email: email.into(), gender: None }
    }

    #[test]
    fn keeps_what_is_valid_and_trims() {
        let user = ValidUser::parse(&raw("  Ada Lovelace\n", " Ada@Example.org ")).unwrap();
        assert_eq!(
            (user.name(), user.email().as_str(), user.gender()),
            ("Ada Lovelace", "Ada@Example.org", Gender::Undisclosed)
        );
    }

    #[test]
    fn tells_every_wrong_field() {
        let bad = RawUser { name: " ".into(), email: "nobody".into(), gender: Some("x".into()) };
        let fields: Vec<_> = ValidUser::parse(&bad).unwrap_err().iter().map(|e| e.field).collect();
        assert_eq!(fields, ["name", "email", "gender"]);
    }

    #[test]
    fn limits_are_where_they_are_said_to_be() {
        let long = "é".repeat(100);
        assert!(ValidUser::parse(&raw(&long, "a@b.c")).is_ok());
        assert!(ValidUser::parse(&raw(&format!("{long}e"), "a@b.c")).is_err());
        assert!(ValidUser::parse(&raw("a\u{0}b", "a@b.c")).is_err());
        for unseen in ["\u{200b}", "\u{3164}\u{2800}", "\u{202e}exe", "a\u{2066}b", "a\u{2028}b", "\u{ffff}"] {
            assert!(ValidUser::parse(&raw(unseen, "a@b.c")).is_err(), "{unseen:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_is_within_the_tables_checks(name in any::<String>(), email in any::<String>()) {
            if let Ok(user) = ValidUser::parse(&raw(&name, &email)) {
                prop_assert!((1..=100).contains(&user.name().chars().count()));
                prop_assert!(!user.name().contains('\0'));
                prop_assert!((3..=254).contains(&user.email().as_str().len()));
                prop_assert!(!user.email().as_str().contains('\0'));
            }
        }
    }
}
