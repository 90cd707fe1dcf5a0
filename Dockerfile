# The web image: a static binary on nothing.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY xtask/Cargo.toml xtask/
COPY web web
# The other members' sources are not part of this image; cargo only wants to see that they exist.
RUN mkdir -p src xtask/src && touch src/lib.rs build.rs && echo 'fn main() {}' | tee src/main.rs > xtask/src/main.rs
RUN cargo build --locked --release --package user-app --target x86_64-unknown-linux-musl
FROM scratch
COPY --from=build /src/target/x86_64-unknown-linux-musl/release/user-app /user-app
USER 65532:65532
ENTRYPOINT ["/user-app"]
