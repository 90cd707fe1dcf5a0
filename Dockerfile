# The web app's image: one static binary and nothing else.
#
# Builds with any engine, also one without BuildKit: no mounts, no heredocs. The build
# context is Cargo.toml, Cargo.lock, web/ and xtask/Cargo.toml; the workspace's other members
# are stood in for by empty files.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
FROM ${RUST_IMAGE} AS build

# Empty: this machine's own, such as x86_64-unknown-linux-musl.
ARG TARGET=
WORKDIR /src
RUN target="${TARGET:-$(uname -m)-unknown-linux-musl}" \
 && echo "$target" > /target \
 && { command -v musl-gcc || { apt-get update && apt-get install -y --no-install-recommends musl-tools; }; } \
 && { rustup target list --installed | grep -qx "$target" || rustup target add "$target"; }

# Paths of the machine that builds stay out of the binary, so that the same sources give the
# same bytes anywhere.
ENV CARGO_INCREMENTAL=0 \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=/src --remap-path-prefix=/usr/local/cargo=/cargo"

# Dependencies alone, in a layer that stays until one of them changes.
COPY Cargo.toml Cargo.lock ./
COPY web/Cargo.toml web/Cargo.toml
COPY xtask/Cargo.toml xtask/Cargo.toml
RUN mkdir -p src web/src xtask/src \
 && for f in src/lib.rs web/src/lib.rs; do : > "$f"; done \
 && for f in build.rs src/main.rs web/src/main.rs xtask/src/main.rs; do echo 'fn main() {}' > "$f"; done \
 && cargo build --locked --release --target "$(cat /target)" -p user-app

# The app. Cargo goes by modification times, and these may be older than the stand-ins'.
COPY web web
RUN touch web/src/lib.rs web/src/main.rs \
 && cargo build --locked --release --target "$(cat /target)" -p user-app \
 && install -D "target/$(cat /target)/release/user-app" /out/user-app \
 && touch -d @0 /out/user-app

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="user-app" \
      org.opencontainers.image.description="A user registry that rides through a database failover" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/user-app /user-app
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/user-app"]
