//! The tables as Diesel sees them; `migrations/` makes them.

diesel::table! {
    /// The registered users.
    users (id) {
        /// The number, which grows with each registration: the order of the list.
        id -> Int8,
        /// The name: 1 to 100 characters.
        name -> Text,
        /// The address; unique without regard to case.
        email -> Text,
        /// The gender: one of [`crate::models::Gender`]'s names.
        gender -> Text,
        /// The moment of the registration.
        created_at -> Timestamptz,
        /// The moment of the last change; the version for conditional updates.
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// The keys of writes that took effect, with the response each was answered with.
    idempotency_keys (key) {
        /// The client's key.
        key -> Text,
        /// The digest of the request under this key.
        fingerprint -> Binary,
        /// The HTTP status of the saved response.
        status -> Int2,
        /// The user as JSON, as it was right after the effect.
        response -> Text,
        /// The number of times the response was given out again.
        replays -> Int4,
        /// The moment of the effect.
        created_at -> Timestamptz,
    }
}
