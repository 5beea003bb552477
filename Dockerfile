# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p taskpost && cp target/release/taskpost /taskpost

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/taskpost taskpost
COPY --from=build /taskpost /usr/local/bin/taskpost
USER taskpost
WORKDIR /var/lib/taskpost
ENV HTTP_HOST=0.0.0.0 DATA_DIR=/var/lib/taskpost/data LOG_FORMAT=json
EXPOSE 3000
VOLUME /var/lib/taskpost/data
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD curl -fsS http://127.0.0.1:3000/health/ready || exit 1
ENTRYPOINT ["taskpost"]
