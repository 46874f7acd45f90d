"""The tables of the ledger. Results are never updated: two triggers of the database refuse it.

What may change after a verdict (files of its photo, reviews, acknowledgements) lies in tables of its own and is joined
when a result is read.
"""

from __future__ import annotations

VERSION = 1
"""PRAGMA user_version of this layout."""

SCHEMA = """
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL UNIQUE,
  key TEXT UNIQUE,
  request TEXT NOT NULL,
  recipe_id TEXT NOT NULL,
  created TEXT NOT NULL,
  deadline REAL NOT NULL,
  boot TEXT NOT NULL,
  is_part INTEGER NOT NULL
);
CREATE TABLE results (
  number INTEGER PRIMARY KEY,
  result_id TEXT NOT NULL UNIQUE,
  job_id TEXT NOT NULL UNIQUE REFERENCES jobs (job_id),
  state INTEGER NOT NULL,
  decision TEXT NOT NULL,
  code INTEGER NOT NULL,
  part_id TEXT NOT NULL,
  meas_id TEXT NOT NULL,
  product_id TEXT NOT NULL,
  external_recipe_id TEXT NOT NULL,
  internal_recipe_id TEXT NOT NULL,
  created TEXT NOT NULL,
  total_seconds REAL NOT NULL,
  is_part INTEGER NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX results_part_id ON results (part_id, number);
CREATE INDEX results_decision ON results (decision, number);
CREATE TRIGGER results_stay BEFORE UPDATE ON results BEGIN SELECT RAISE (ABORT, 'results are never changed'); END;
CREATE TRIGGER results_remain BEFORE DELETE ON results BEGIN SELECT RAISE (ABORT, 'results are never removed'); END;
CREATE TABLE late (
  late_id INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL REFERENCES jobs (job_id),
  record TEXT NOT NULL
);
CREATE INDEX late_job ON late (job_id);
CREATE TABLE acknowledged (
  sink TEXT NOT NULL,
  number INTEGER NOT NULL REFERENCES results (number),
  PRIMARY KEY (sink, number)
) WITHOUT ROWID;
CREATE TABLE cursors (sink TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE reviews (
  review_id INTEGER PRIMARY KEY,
  result_id TEXT NOT NULL REFERENCES results (result_id),
  decision TEXT NOT NULL,
  user TEXT NOT NULL,
  note TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE INDEX reviews_result ON reviews (result_id, review_id);
CREATE TABLE evidence (
  result_id TEXT PRIMARY KEY REFERENCES results (result_id),
  photo TEXT NOT NULL,
  mask_file TEXT NOT NULL,
  num_bytes INTEGER NOT NULL,
  kept TEXT NOT NULL,
  removed TEXT
) WITHOUT ROWID;
CREATE INDEX evidence_held ON evidence (kept, num_bytes) WHERE removed IS NULL;
CREATE TABLE audit (
  audit_id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  user TEXT NOT NULL,
  action TEXT NOT NULL,
  data TEXT NOT NULL
);
CREATE TABLE recipes (
  seen INTEGER PRIMARY KEY,
  external_id TEXT NOT NULL,
  internal_id TEXT NOT NULL,
  record TEXT NOT NULL,
  UNIQUE (external_id, internal_id)
);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pins (external_id TEXT PRIMARY KEY, internal_id TEXT NOT NULL) WITHOUT ROWID;
"""
"""`acknowledged` holds what a sink has taken beyond its cursor; everything up to the cursor is taken.
`is_part` is 0 for challenge parts, which no counter of the line counts.
`pins` are versions of recipes that somebody chose: a rollback outlives a restart."""
