# The web app's image: its static binary, the failover helper's, and nothing else.
#
# Its build context is what `stackctl render --build-context DIR` writes: the sources of the app, of the failover helper
# and of the protocol that the app shares with stackctl, and manifests and a lock file that name their dependencies alone. `stackctl up` builds from it by
# itself. Builds with any engine, also one without BuildKit: no mounts, no heredocs.
ARG RUST_IMAGE=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
FROM ${RUST_IMAGE} AS build

# Empty: this machine's own, such as x86_64-unknown-linux-musl.
ARG TARGET=
WORKDIR /src
RUN target="${TARGET:-$(uname -m)-unknown-linux-musl}" \
 && echo "$target" > /target \
 && { command -v musl-gcc || { apt-get update && apt-get install -y --no-install-recommends musl-tools; }; } \
 && { rustup target list --installed | grep -qx "$target" || rustup target add "$target"; }

# Paths of the machine that builds and the time (mimalloc's C sources ask the compiler for it) stay
# out of the binary, so that the same sources give the same bytes anywhere.
ENV CARGO_INCREMENTAL=0 \
    SOURCE_DATE_EPOCH=0 \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=/src --remap-path-prefix=/usr/local/cargo=/cargo"

# Dependencies alone, in a layer that stays until one of them changes. The lock file may list
# more features' dependencies than the app turns on, which cargo drops; it must not lack any:
# what it gains would be pinned by nobody.
COPY Cargo.toml Cargo.lock ./
COPY protocol/Cargo.toml protocol/Cargo.toml
COPY web/Cargo.toml web/Cargo.toml
COPY helper/Cargo.toml helper/Cargo.toml
RUN mkdir protocol/src web/src helper/src \
 && : > protocol/src/lib.rs && : > web/src/lib.rs && : > helper/src/lib.rs \
 && echo 'fn main() {}' | tee web/src/main.rs > helper/src/main.rs \
 && grep ^checksum Cargo.lock | sort > /pinned \
 && cargo build --release --target "$(cat /target)" \
 && if grep ^checksum Cargo.lock | sort | comm -13 /pinned - | grep .; then \
      echo 'Cargo.lock lacks these: nothing pins them' >&2; exit 1; fi

# The programs. Cargo goes by modification times, and these may be older than the stand-ins'.
COPY protocol protocol
COPY web web
COPY helper helper
RUN touch protocol/src/lib.rs web/src/lib.rs web/src/main.rs helper/src/lib.rs helper/src/main.rs \
 && cargo build --locked --release --target "$(cat /target)" \
 && install -D -t /out "target/$(cat /target)/release/user-app" "target/$(cat /target)/release/failover-helper" \
 && touch -d @0 /out/*

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="user-app" \
      org.opencontainers.image.description="A user registry that rides through a database failover" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/user-app /out/failover-helper /
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/user-app"]
