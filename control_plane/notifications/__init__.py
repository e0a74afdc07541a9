"""Notifications: the only room that calls other hosts. Signs, checks the address, sends, and tries again."""
