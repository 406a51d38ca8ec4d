"""Sensor rigs and lidar sweeps."""
