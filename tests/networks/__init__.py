"""Networks of the kinds that flowlet compiles, with random weights: see README.md."""
