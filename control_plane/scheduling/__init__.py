"""Time: which schedules are due, and housekeeping; the only room that knows APScheduler."""
