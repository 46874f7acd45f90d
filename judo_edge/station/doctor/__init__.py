"""Whether this machine and a station's file are fit for the line: each finding says what was found and what to do."""
