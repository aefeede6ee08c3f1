"""What only the machine itself, its DNS and its daemons can show: pure functions of facts gathered at the edge."""
