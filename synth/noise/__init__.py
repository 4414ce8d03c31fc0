"""Sensor noise: sampled from real frames, kept in a bank, put on images."""
