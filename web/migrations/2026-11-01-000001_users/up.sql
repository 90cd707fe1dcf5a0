CREATE TABLE users (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    email      text        NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 254),
    gender     text        NOT NULL CHECK (gender IN ('female', 'male', 'other', 'undisclosed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- An address is one user's whatever its case. The address itself is kept as it was typed.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
