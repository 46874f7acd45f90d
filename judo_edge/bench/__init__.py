"""How long a part takes, measured on workloads of a line; a bundle against its own limit, and against others."""
