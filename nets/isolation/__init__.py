"""What keeps a run and its caller's process apart: contexts of torch, and global random numbers."""
