"""The inspector of a station: versions of recipes, signed bundles, frames in and outcomes out, the archive of photos.

Everything here is synchronous and knows no wire; `processes.inspector` runs it in threads of its own.
"""
