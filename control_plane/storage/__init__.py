"""Storage: the only room that knows SQLAlchemy. Tables, queries and compare-and-set writes, on one writer thread."""
