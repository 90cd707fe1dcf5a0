//! Made-up users.

use anyhow::Result;

use crate::postgres::Postgres;

/// Replaces what is in the database by so many made-up users.
///
/// # Errors
/// When the database refuses.
pub fn fill(postgres: &Postgres, database: &str, users: u32) -> Result<()> {
    let sql = format!(
        "TRUNCATE users, idempotency_keys RESTART IDENTITY; \
         INSERT INTO users (name, email, gender, created_at) SELECT \
           (ARRAY['Ada','Alan','Barbara','Donald','Edsger','Frances','Grace','Hedy','Jean','Ken','Margaret','Niklaus'])[1 + n % 12] \
             || ' ' || (ARRAY['Allen','Dijkstra','Hamilton','Hopper','Knuth','Lamarr','Liskov','Lovelace','Turing'])[1 + n % 9], \
           'user' || n || '@example.org', \
           (ARRAY['female','male','other','undisclosed'])[1 + n * 7 / 5 % 4], \
           now() - ({users} - n) * interval '7 minutes' \
         FROM generate_series(1, {users}) AS n"
    );
    postgres.psql(database, &sql)?;
    postgres.psql(database, "VACUUM ANALYZE users").map(drop)
}
