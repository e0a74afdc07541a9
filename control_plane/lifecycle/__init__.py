"""The verbs, one transaction each: load, decide, save if unchanged, commit, notify. The only writers."""
