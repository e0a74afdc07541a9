"""A fresh directory per attempt below the state directory, and its removal."""
