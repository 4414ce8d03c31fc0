"""What is wrong with a data set, how good its frames are, and what gives a set away."""
