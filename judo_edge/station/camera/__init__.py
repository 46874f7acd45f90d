"""A camera of the station: the thread that reads it, and the photos it puts on their way. Knows no kind of camera."""
