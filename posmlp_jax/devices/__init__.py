"""What a program runs on: the mesh of devices, the hosts, and their memory."""
