//! The tables as Diesel sees them; `migrations/` makes them.

diesel::table! {
    /// Registered users.
    users (id) {
        /// Grows with each registration: the order of the list.
        id -> Int8,
        /// 1 to 100 characters.
        name -> Text,
        /// Unique without regard to case.
        email -> Text,
        /// One of [`crate::models::Gender`]'s names.
        gender -> Text,
        /// When the user was registered.
        created_at -> Timestamptz,
        /// When the user was last changed; the version for conditional updates.
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// Keys of writes that took effect, with the response each was answered with.
    idempotency_keys (key) {
        /// The client's key.
        key -> Text,
        /// Digest of what was asked under this key.
        fingerprint -> Binary,
        /// HTTP status of the saved response.
        status -> Int2,
        /// The user as JSON, as it was right after the effect.
        response -> Text,
        /// How many times the response was given out again.
        replays -> Int4,
        /// When the effect took place.
        created_at -> Timestamptz,
    }
}
