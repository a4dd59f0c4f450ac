"""What a rank is made of: the roles of each session that it hosts, whose turn it is, what they share, and the
links between them."""
