"""Recipe of the policies `reach` and `reach-small`: see README.md."""
