"""The station's web page and its JSON API: a façade that knows the station only by `StationApi`.

Needs the extra `web`; only the process that serves the page imports this package.
"""
