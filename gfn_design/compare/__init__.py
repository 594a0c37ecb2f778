"""Compare methods: a grid of problem x method x seed at equal numbers of trajectories."""
