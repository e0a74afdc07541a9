"""Files that runs leave: taken in from runners, kept beside the database, removed when they are old."""
