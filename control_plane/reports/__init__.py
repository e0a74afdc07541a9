"""Reports of runs: gathers what there is to tell, renders it, and stores it before the run is settled."""
