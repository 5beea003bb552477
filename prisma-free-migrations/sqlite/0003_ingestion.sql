-- Which tasks were deleted, so that a command which comes once more does not bring one back.
CREATE INDEX events_deleted ON events (aggregate_id) WHERE type = 'task.deleted';
