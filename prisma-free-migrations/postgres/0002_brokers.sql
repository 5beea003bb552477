-- What delivering through RabbitMQ, reading from Kafka and running as several processes need.

-- queued_at: since when RabbitMQ has the delivery for its present due_at; none while it has not, and always on the
-- store's own queue. traceparent: the trace of the request that the delivery goes back to.
ALTER TABLE deliveries ADD COLUMN queued_at TIMESTAMPTZ;
ALTER TABLE deliveries ADD COLUMN traceparent TEXT;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (channel, class, queued_at, due_at) WHERE finished_at IS NULL;

-- Which process does what only one needs to do. A lease saves work; what must not happen twice is fenced elsewhere.
CREATE TABLE leases (
    name   TEXT PRIMARY KEY,
    holder UUID NOT NULL,
    until  TIMESTAMPTZ NOT NULL
);
