"""From a checkpoint to a bundle. Needs torch and transformers (extra `export`); the runtime never imports this room."""
