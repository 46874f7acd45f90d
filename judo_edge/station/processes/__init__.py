"""The processes of a station, a module each, and what they share: `python -m judo_edge.station.processes ROLE`."""
