"""Programs for people who work on judo-edge: they measure, they are not collected as tests."""
