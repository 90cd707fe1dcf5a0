-- Search in any language: text is compared without case, accents and characters that show as nothing. The functions
-- are the index's (000005), so their results may never change: whoever needs others makes new ones.

-- Folds text that is not all ASCII. Lower case by a collation that knows every script and whose rules come with
-- PostgreSQL (17 and later) or do not change (glibc's C.utf8). Not by ICU: after an update of its library each
-- session is warned, and this program takes a warning for a commit that is not safe. Without either of the two only
-- ASCII is folded.
DO $do$
DECLARE
    collations text[] := ARRAY(
        SELECT collname FROM pg_collation
        WHERE collnamespace = 'pg_catalog'::regnamespace AND collname IN ('pg_c_utf8', 'C.utf8', 'C.UTF-8')
          AND collencoding IN (-1, pg_char_to_encoding('UTF8'))
        ORDER BY collname <> 'pg_c_utf8');
BEGIN
    EXECUTE format($make$
        CREATE FUNCTION search_fold_unicode(t text) RETURNS text
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $body$
        DECLARE
            -- Latin, Cyrillic, Hebrew, Arabic, Syriac and Indic marks that stand for accents, points and nuktas, and
            -- what is invisible. Vowel signs stay: they are letters.
            marks CONSTANT text := '[\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7'
                || '\u0610-\u061c\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a'
                || '\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc\u180e\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e'
                || '\u2060-\u2064\u2066-\u2069\u20d0-\u20f0\ufe00-\ufe0f\ufe20-\ufe2f\ufeff]';
        BEGIN
            -- Letters that look accented and are their own, and a final sigma.
            t := translate(lower(regexp_replace(normalize(t, NFKD), marks, '', 'g') COLLATE %I), 'ςøłđðħıŧ', 'σolddhit');
            t := replace(replace(replace(replace(t, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th');
            -- Syllables and marks that stayed are one character again.
            RETURN normalize(t, NFC);
        END
        $body$ $make$, coalesce(collations[1], 'C'));
END
$do$;

-- Folds a name, an address or what is searched for.
CREATE FUNCTION search_fold(t text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN octet_length(t) = length(t) THEN lower(t) ELSE search_fold_unicode(t) END;

-- What the index holds of a folded text: each two characters that stand side by side, and each character that is not
-- ASCII. Trigrams would leave out searches for one or two characters, which are whole names in Chinese; and pg_trgm
-- knows no letters but ASCII's in a database whose locale is C. One letter of ASCII is in nearly every name.
CREATE FUNCTION search_grams_of(folded text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    cut CONSTANT text := E'\x01';
    pairs CONSTANT text := '\1' || cut;
    n CONSTANT integer := length(folded);
BEGIN
    RETURN array_remove(string_to_array(
            regexp_replace(substr(folded, 1, n / 2 * 2), '(..)', pairs, 'g')
            || regexp_replace(substr(folded, 2, (n - 1) / 2 * 2), '(..)', pairs, 'g'), cut), '')
        || CASE WHEN octet_length(folded) > n
            THEN string_to_array(regexp_replace(folded, '[\x01-\x7f]', '', 'g'), NULL) END;
END
$$;

-- What the index holds of a user.
CREATE FUNCTION search_grams(name text, email text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN search_grams_of(search_fold(name) || E'\n' || search_fold(email));

-- What the index must hold of a user whom a search finds. Nothing for a letter of ASCII, of which it holds none.
CREATE FUNCTION search_terms(folded text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF length(folded) < 2 THEN
        RETURN CASE WHEN octet_length(folded) > 1 THEN ARRAY[folded] ELSE '{}' END;
    END IF;
    RETURN ARRAY(SELECT DISTINCT substr(folded, i, 2) FROM generate_series(1, length(folded) - 1) AS i);
END
$$;

-- A folded search as a pattern for LIKE, taken literally.
CREATE FUNCTION search_pattern(folded text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN '%' || regexp_replace(folded, '([\\%_])', '\\\1', 'g') || '%';
