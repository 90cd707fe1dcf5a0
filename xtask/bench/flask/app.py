"""The yardstick: the user registry as one would write it in Flask and SQLAlchemy.

Same schema, same pages, same API for reading and creating as the app that it is measured against. Idempotency
keys are honoured too: key, effect and saved response in one transaction.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from datetime import datetime

from flask import Flask, Response, g, jsonify, redirect, render_template, request
from sqlalchemy import BigInteger, DateTime, Identity, LargeBinary, SmallInteger, Text, create_engine, func, or_, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

GENDERS = {"female": "Female", "male": "Male", "other": "Other", "undisclosed": "Prefer not to say"}
EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{1,63}")
UNAVAILABLE = "The database did not answer in time. Please send it again in a moment."

engine = create_engine(
    os.environ["DATABASE_URL"],
    pool_size=int(os.environ.get("DB_POOL", "4")),
    max_overflow=0,
    pool_pre_ping=os.environ.get("DB_PRE_PING") == "1",
    connect_args={"connect_timeout": 2, "options": "-c lock_timeout=5s", "application_name": "flask"},
)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
    gender: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    def document(self):
        return {
            "id": self.id,
            "name": self.name,
            "email": self.email,
            "gender": self.gender,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int] = mapped_column(SmallInteger)
    response: Mapped[str] = mapped_column(Text)


app = Flask(__name__, static_folder=os.environ.get("STATIC_FOLDER"))
app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
app.jinja_env.filters["minute"] = lambda moment: moment.strftime("%Y-%m-%d %H:%M")
app.jinja_env.globals.update(genders=GENDERS, pod=os.environ.get("POD_NAME", "local"), version="0.1.0")


@app.after_request
def protect(response):
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    if "csrf" in g:
        response.set_cookie("csrf", g.csrf, httponly=True, samesite="Strict")
    return response


@app.errorhandler(OperationalError)
def unavailable(_error):
    if request.path.startswith("/api/"):
        return problem(503, UNAVAILABLE, {"Retry-After": "5"})
    return render_template("message.html", title="The database does not answer", text=UNAVAILABLE), 503, {"Retry-After": "5"}


def problem(status, detail, headers=None, **more):
    body = json.dumps({"type": "about:blank", "status": status, "detail": detail, **more})
    return Response(body, status, headers, content_type="application/problem+json")


def csrf_token():
    token = request.cookies.get("csrf")
    if not token:
        token = g.csrf = secrets.token_hex(16)
    return token


def is_ours():
    return hmac.compare_digest(request.cookies.get("csrf", ""), request.form.get("csrf", "-"))


def validate(raw):
    name, email = raw["name"].strip(), raw["email"].strip()
    errors = {}
    if not 1 <= len(name) <= 100 or not name.isprintable():
        errors["name"] = "Enter a name of at most 100 characters."
    if len(email) > 254 or not EMAIL.fullmatch(email):
        errors["email"] = "Enter an address like name@example.org."
    if raw["gender"] not in GENDERS:
        errors["gender"] = "Choose one of the options."
    return {"name": name, "email": email, "gender": raw["gender"]}, errors


def fingerprint(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


def create(values, key):
    """The user as saved, or None where another has the address; and whether it was there before."""
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            user = User(**values)
            session.add(user)
            session.flush()
            saved = user.document()
            if key:
                session.add(IdempotencyKey(key=key, fingerprint=fingerprint(values), status=201, response=json.dumps(saved)))
        return saved, False
    except IntegrityError:
        with Session(engine) as session:
            before = session.get(IdempotencyKey, key) if key else None
            return (json.loads(before.response), True) if before and before.fingerprint == fingerprint(values) else (None, False)


def listed(limit):
    """A page of the list, newest first, and whether there are newer and older ones."""
    search = request.args.get("q", "").strip()
    before, after = request.args.get("before", type=int), request.args.get("after", type=int)
    query = select(User).limit(limit + 1)
    if search:
        query = query.where(or_(User.name.icontains(search, autoescape=True), User.email.icontains(search, autoescape=True)))
    if after is not None:
        query = query.where(User.id > after).order_by(User.id)
    else:
        query = query.order_by(User.id.desc())
        if before is not None:
            query = query.where(User.id < before)
    with Session(engine) as session:
        users = list(session.scalars(query))
    more, users = len(users) > limit, users[:limit]
    if after is not None:
        return search, users[::-1], more, True
    return search, users, before is not None, more


def limit_of(default):
    return min(max(request.args.get("limit", default, type=int), 1), 100)


@app.get("/")
def home():
    return redirect("/users", 303)


@app.get("/users")
def users():
    limit = limit_of(25)
    search, page, newer, older = listed(limit)
    return render_template("list.html", here="users", search=search, users=page, newer=newer, older=older, limit=limit)


def form(id, raw, errors=None, notice=None, status=200):
    return (
        render_template(
            "form.html",
            here="new" if id is None else "",
            title="Register a user" if id is None else "Edit a user",
            action="/users" if id is None else f"/users/{id}",
            submit="Register" if id is None else "Save",
            csrf=csrf_token(),
            key=request.form.get("key") or secrets.token_hex(16),
            raw=raw,
            errors=errors or {},
            notice=notice,
        ),
        status,
    )


def sent():
    return {"name": request.form.get("name", ""), "email": request.form.get("email", ""), "gender": request.form.get("gender", "undisclosed")}


@app.get("/users/new")
def new():
    return form(None, {"name": "", "email": "", "gender": "undisclosed"})


@app.post("/users")
def register():
    raw = sent()
    if not is_ours():
        return form(None, raw, notice="This form could not be checked. Please send it again.", status=403)
    values, errors = validate(raw)
    if errors:
        return form(None, raw, errors, status=422)
    saved, _ = create(values, request.form.get("key"))
    if saved is None:
        return form(None, raw, {"email": "Another user has this e-mail address."}, status=409)
    return redirect(f"/users/{saved['id']}?done=registered", 303)


def missing():
    return render_template("message.html", title="No such user", text="This user does not exist, or does not any more."), 404


@app.get("/users/<int:id>")
def view(id):
    with Session(engine) as session:
        user = session.get(User, id)
    done = {"registered": "Registered.", "saved": "Saved."}.get(request.args.get("done"))
    return render_template("view.html", user=user, done=done) if user else missing()


@app.get("/users/<int:id>/edit")
def edit(id):
    with Session(engine) as session:
        user = session.get(User, id)
    return form(id, user.document()) if user else missing()


@app.post("/users/<int:id>")
def update(id):
    raw = sent()
    if not is_ours():
        return form(id, raw, notice="This form could not be checked. Please send it again.", status=403)
    values, errors = validate(raw)
    if errors:
        return form(id, raw, errors, status=422)
    try:
        with Session(engine) as session, session.begin():
            user = session.get(User, id, with_for_update=True)
            if user is None:
                return missing()
            for field, value in values.items():
                setattr(user, field, value)
            user.updated_at = func.now()
    except IntegrityError:
        return form(id, raw, {"email": "Another user has this e-mail address."}, status=409)
    return redirect(f"/users/{id}?done=saved", 303)


@app.route("/users/<int:id>/delete", methods=["GET", "POST"])
def delete(id):
    with Session(engine) as session, session.begin():
        user = session.get(User, id)
        if user is None:
            return missing()
        if request.method == "POST" and is_ours():
            session.delete(user)
            return redirect("/users", 303)
        return render_template("delete.html", user=user, csrf=csrf_token())


@app.get("/info")
def info():
    with engine.connect() as connection:
        server = connection.execute(
            text("SELECT coalesce(host(inet_server_addr()), 'local') AS address, pg_postmaster_start_time() AS started, version() AS version")
        ).one()
    return render_template("info.html", here="info", server=server)


@app.get("/api/v1/users")
def api_list():
    _, users, newer, older = listed(limit_of(50))
    document = {"users": [user.document() for user in users], "stale": False}
    if older and users:
        document["older"] = users[-1].id
    if newer and users:
        document["newer"] = users[0].id
    return jsonify(document)


@app.post("/api/v1/users")
def api_create():
    raw = request.get_json(silent=True)
    if not isinstance(raw, dict) or not set(raw) <= {"name", "email", "gender"}:
        return problem(400, "Send a JSON object with name, email and gender.")
    values, errors = validate({"name": str(raw.get("name", "")), "email": str(raw.get("email", "")), "gender": raw.get("gender") or "undisclosed"})
    if errors:
        return problem(422, "Some fields are not valid.", errors=[{"field": f, "message": m} for f, m in errors.items()])
    saved, replayed = create(values, request.headers.get("Idempotency-Key"))
    if saved is None:
        return problem(409, "Another user has this e-mail address.")
    response = jsonify(saved)
    response.status_code = 201
    response.headers["Location"] = f"/api/v1/users/{saved['id']}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@app.get("/api/v1/users/<int:id>")
def api_read(id):
    with Session(engine) as session:
        user = session.get(User, id)
    return jsonify(user.document()) if user else problem(404, "There is no such user.")


@app.get("/healthz")
def healthz():
    return "ok\n"


@app.get("/readyz")
def readyz():
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return "ready\n"
