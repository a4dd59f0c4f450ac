"""What the gateway is made of: its socket, who may come in, the clients' sessions, the lines to the ranks."""
