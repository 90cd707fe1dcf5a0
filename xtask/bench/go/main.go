// The peer: the user registry as one would write it in Go for speed, with net/http and pgx.
//
// Same schema, same list page, same API for reading and creating as the app that it is measured against, and the same care:
// equal lists are asked for once, effect and idempotency key are one statement, a write is sent again while the database
// fails over, and every request is logged. Pages are written by hand into a buffer: html/template is several times slower.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/mail"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"
)

const (
	deadline = 15 * time.Second
	pause    = 100 * time.Millisecond
	maxBody  = 16 << 10
	columns  = "id, name, email, gender, created_at, updated_at"
	creation = "WITH u AS (INSERT INTO users (name, email, gender) VALUES ($1, $2, $3) RETURNING " + columns + "), " +
		"k AS (INSERT INTO idempotency_keys (key, fingerprint, client, status, response) " +
		"SELECT $4, $5, $6, 201, row_to_json(u)::text FROM u) SELECT " + columns + " FROM u"
	// A write, so that its commit waits for the standby.
	replay = "UPDATE idempotency_keys SET replays = replays + 1 WHERE key = $1 RETURNING fingerprint, response"
)

var genders = map[string]string{"female": "Female", "male": "Male", "other": "Other", "undisclosed": "Prefer not to say"}

type user struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Email     string    `json:"email"`
	Gender    string    `json:"gender"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

type app struct {
	pool  *pgxpool.Pool
	lists singleflight.Group
}

// part is a part of the list, newest first.
type part struct {
	search        string
	before, after int64
	limit         int
}

type page struct {
	users        []user
	newer, older bool
}

func main() {
	if err := run(); err != nil {
		slog.Error("ended", "error", err)
		os.Exit(1)
	}
}

func run() error {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.MaxConns = 8
	config.MinConns = 8
	config.ConnConfig.ConnectTimeout = 2 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	a := &app{pool: pool}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users", a.list)
	mux.HandleFunc("GET /api/v1/users", a.apiList)
	mux.HandleFunc("POST /api/v1/users", a.apiCreate)
	mux.HandleFunc("GET /api/v1/users/{id}", a.apiRead)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.ready)
	server := &http.Server{Addr: os.Getenv("LISTEN"), Handler: guard(mux), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return server.Shutdown(closing)
	}
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// guard bounds, times, protects and logs every request.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		id := random()
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Request-Id", id)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		seen := &recorder{w, http.StatusOK}
		next.ServeHTTP(seen, r.WithContext(ctx))
		slog.LogAttrs(ctx, slog.LevelInfo, "request", slog.String("id", id), slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.Int("status", seen.status), slog.Duration("took", time.Since(started)))
	})
}

func random() string {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:])
	return hex.EncodeToString(bytes[:])
}

func (a *app) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.pool.Ping(r.Context()); err != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func partOf(r *http.Request, limit int) part {
	query := r.URL.Query()
	p := part{search: strings.TrimSpace(query.Get("q")), limit: limit}
	p.before, _ = strconv.ParseInt(query.Get("before"), 10, 64)
	p.after, _ = strconv.ParseInt(query.Get("after"), 10, 64)
	if n, err := strconv.Atoi(query.Get("limit")); err == nil {
		p.limit = min(max(n, 1), 100)
	}
	return p
}

func (a *app) read(ctx context.Context, p part) (page, error) {
	where, order, args := []string{}, "DESC", []any{p.limit + 1}
	bind := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "$", "$"+strconv.Itoa(len(args))))
	}
	if p.search != "" {
		bind("(search_fold(name) LIKE search_pattern(search_fold($)) OR search_fold(email) LIKE search_pattern(search_fold($)))", p.search)
	}
	switch {
	case p.after != 0:
		order = "ASC"
		bind("id > $", p.after)
	case p.before != 0:
		bind("id < $", p.before)
	}
	query := "SELECT " + columns + " FROM users"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	rows, err := a.pool.Query(ctx, query+" ORDER BY id "+order+" LIMIT $1", args...)
	if err != nil {
		return page{}, err
	}
	defer rows.Close()
	users := make([]user, 0, p.limit+1)
	for rows.Next() {
		var u user
		if err := rows.Scan(&u.ID, &u.Name, &u.Email, &u.Gender, &u.CreatedAt, &u.UpdatedAt); err != nil {
			return page{}, err
		}
		users = append(users, u)
	}
	if err := rows.Err(); err != nil {
		return page{}, err
	}
	more := len(users) > p.limit
	if more {
		users = users[:p.limit]
	}
	if p.after != 0 {
		for i, j := 0, len(users)-1; i < j; i, j = i+1, j-1 {
			users[i], users[j] = users[j], users[i]
		}
		return page{users, more, true}, nil
	}
	return page{users, p.before != 0, more}, nil
}

// shared reads and renders a part of the list once for all that ask for it at the same moment.
func (a *app) shared(r *http.Request, kind string, p part, render func(part, page) []byte) ([]byte, error) {
	key := kind + "\x00" + p.search + "\x00" + strconv.FormatInt(p.before, 10) + "\x00" + strconv.FormatInt(p.after, 10) + "\x00" + strconv.Itoa(p.limit)
	body, err, _ := a.lists.Do(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), deadline)
		defer cancel()
		var found page
		err := again(ctx, func() error {
			var err error
			found, err = a.read(ctx, p)
			return err
		})
		if err != nil {
			return nil, err
		}
		return render(p, found), nil
	})
	if err != nil {
		return nil, err
	}
	return body.([]byte), nil
}

func (a *app) list(w http.ResponseWriter, r *http.Request) {
	body, err := a.shared(r, "page", partOf(r, 25), listPage)
	if err != nil {
		http.Error(w, "The database does not answer.", http.StatusServiceUnavailable)
		return
	}
	send(w, http.StatusOK, "text/html; charset=utf-8", body)
}

func (a *app) apiList(w http.ResponseWriter, r *http.Request) {
	body, err := a.shared(r, "api", partOf(r, 50), func(_ part, found page) []byte {
		document := map[string]any{"users": found.users, "stale": false}
		if found.older && len(found.users) > 0 {
			document["older"] = found.users[len(found.users)-1].ID
		}
		if found.newer && len(found.users) > 0 {
			document["newer"] = found.users[0].ID
		}
		text, _ := json.Marshal(document)
		return text
	})
	if err != nil {
		unavailable(w)
		return
	}
	send(w, http.StatusOK, "application/json", body)
}

func (a *app) apiRead(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		problem(w, http.StatusNotFound, "There is no such user.")
		return
	}
	var u user
	err = again(r.Context(), func() error {
		row := a.pool.QueryRow(r.Context(), "SELECT "+columns+" FROM users WHERE id = $1", id)
		return row.Scan(&u.ID, &u.Name, &u.Email, &u.Gender, &u.CreatedAt, &u.UpdatedAt)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		problem(w, http.StatusNotFound, "There is no such user.")
	case err != nil:
		unavailable(w)
	default:
		answer(w, http.StatusOK, u)
	}
}

func (a *app) apiCreate(w http.ResponseWriter, r *http.Request) {
	var sent struct{ Name, Email, Gender string }
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sent); err != nil {
		problem(w, http.StatusBadRequest, "Send a JSON object with name, email and gender.")
		return
	}
	name, email, gender := strings.TrimSpace(sent.Name), strings.TrimSpace(sent.Email), sent.Gender
	if gender == "" {
		gender = "undisclosed"
	}
	if !valid(name, email, gender) {
		problem(w, http.StatusUnprocessableEntity, "Some fields are not valid.")
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = random()
	}
	fingerprint := sha256.Sum256([]byte(name + "\x00" + email + "\x00" + gender))
	var u user
	var replayed, reused bool
	err := again(r.Context(), func() error {
		row := a.pool.QueryRow(r.Context(), creation, name, email, gender, key, fingerprint[:], client(r))
		err := row.Scan(&u.ID, &u.Name, &u.Email, &u.Gender, &u.CreatedAt, &u.UpdatedAt)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "23505" {
			return err
		}
		var before []byte
		var response string
		if err := a.pool.QueryRow(r.Context(), replay, key).Scan(&before, &response); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return refused
			}
			return err
		}
		replayed, reused = true, string(before) != string(fingerprint[:])
		return json.Unmarshal([]byte(response), &u)
	})
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "23505":
		problem(w, http.StatusConflict, "Another user has this e-mail address.")
	case err != nil:
		unavailable(w)
	case reused:
		problem(w, http.StatusUnprocessableEntity, "This Idempotency-Key was sent with another request before.")
	default:
		if replayed {
			w.Header().Set("Idempotency-Replayed", "true")
		}
		w.Header().Set("Location", "/api/v1/users/"+strconv.FormatInt(u.ID, 10))
		answer(w, http.StatusCreated, u)
	}
}

func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	digest := sha256.Sum256([]byte(host))
	return hex.EncodeToString(digest[:8])
}

func valid(name, email, gender string) bool {
	length := utf8.RuneCountInString(name)
	shown := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	address, err := mail.ParseAddress(email)
	_, known := genders[gender]
	return length >= 1 && length <= 100 && shown && err == nil && address.Address == email && len(email) <= 254 && known
}

// again does it until it succeeds or is refused for good: while a primary is replaced there is none for some seconds.
func again(ctx context.Context, what func() error) error {
	for {
		err := what()
		if err == nil || errors.Is(err, pgx.ErrNoRows) || ctx.Err() != nil {
			return err
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "25006" && !strings.HasPrefix(refused.Code, "57P") && !strings.HasPrefix(refused.Code, "08") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// send tells the length, so that the answer is not sent in chunks.
func send(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func answer(w http.ResponseWriter, status int, value any) {
	text, _ := json.Marshal(value)
	send(w, status, "application/json", text)
}

func problem(w http.ResponseWriter, status int, detail string) {
	text, _ := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	send(w, status, "application/problem+json", text)
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	problem(w, http.StatusServiceUnavailable, "The database did not answer in time. Please send it again in a moment.")
}
