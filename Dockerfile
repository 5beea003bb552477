# syntax=docker/dockerfile:1.7
FROM rust:1.95-bookworm AS toolchain
# TLS to Kafka links OpenSSL; librdkafka itself is built by plain make.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The workspace without its code: the manifests, and for each crate an empty library or program.
FROM toolchain AS manifests
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -name build.rs -delete \
    && find . -path '*/src/lib.rs' -exec truncate --size 0 {} + \
    && find . \( -path '*/src/main.rs' -o -name build.rs \) -exec sh -c 'for file; do echo "fn main() { }" >"$file"; done' sh {} + \
    && find . -type d -empty -delete

# Everything others wrote. This layer stays until a manifest or Cargo.lock changes.
FROM toolchain AS dependencies
COPY --from=manifests /src .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --release --locked --package taskpost --features kafka-tls

FROM dependencies AS build
COPY . .
# Cargo goes by time, and our files may be older than the empty ones.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    find . -path ./target -prune -o \( -name '*.rs' -o -name '*.sql' \) -exec touch {} + \
    && cargo build --release --locked --package taskpost --features kafka-tls

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/taskpost taskpost \
    && install --directory --owner taskpost --group taskpost /var/lib/taskpost/data
COPY --from=build /src/target/release/taskpost /usr/local/bin/taskpost
USER taskpost
WORKDIR /var/lib/taskpost
ENV HTTP_HOST=0.0.0.0 DATA_DIR=/var/lib/taskpost/data LOG_FORMAT=json
# The API; consumers and workers when they run apart.
EXPOSE 3000 3001 3002
VOLUME /var/lib/taskpost/data
# Whichever role it is, one of these answers.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s \
    CMD for port in "${HTTP_PORT:-3000}" "${OPERATE_PORT:-3001}" 3002; do \
        curl --fail --silent --max-time 3 "http://127.0.0.1:$port/health/ready" >/dev/null && exit 0; \
    done; exit 1
ENTRYPOINT ["taskpost"]
