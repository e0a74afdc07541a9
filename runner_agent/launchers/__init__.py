"""How a kind of program is started: an assignment and a workspace become steps for the shim."""
