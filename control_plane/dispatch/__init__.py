"""Handing runs over: live sessions, offers and stops, and the clocks that watch over them."""
