"""The core of a station: jobs, deadlines, states and what is told of them. No model, no camera, no façade in it."""
