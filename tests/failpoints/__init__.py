"""Named points in the real programs at which a test may kill, stop or hold them; the product knows nothing of it."""
