"""Members of ZIP and TAR archives as files: found by paths that go through the archive, read by their position."""
