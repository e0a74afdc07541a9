"""The admin CLI: a remote client of the control plane that imports none of its other rooms."""
