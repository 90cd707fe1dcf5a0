-- Reads and writes go on while it is built. users_search of 000003 stays: the version before searches by it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_search_grams ON users USING gin (search_grams(name, email));
