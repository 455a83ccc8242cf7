"""Level-based foraging and the robot warehouse stepped by own code, equal to the packages' in every bit."""
